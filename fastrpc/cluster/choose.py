"""Make the balancer that a client's options name."""

import functools
import random

from fastrpc.cluster.balancers.contract import Balancer
from fastrpc.cluster.balancers.names import BALANCERS
from fastrpc.cluster.balancers.zones import ZoneFirst
from fastrpc.cluster.options import ClusterOptions
from fastrpc.errors import ConfigError

__all__ = ["make_balancer"]


def make_balancer(options: ClusterOptions) -> Balancer:
    """Return the balancer that *options* ask for.

    Raises:
        ConfigError: There is none of that name, or what makes one of the user's own makes
            something else.
    """
    wanted = options.balance
    if callable(wanted):
        make = wanted
    elif wanted in BALANCERS:
        make = functools.partial(_seeded, wanted)
    else:
        known = ", ".join(sorted(BALANCERS))
        raise ConfigError(f"balance must be one of {known}, or make a Balancer; got {wanted!r}")
    balancer = ZoneFirst(make, options.zone) if options.zone else make()
    if not isinstance(balancer, Balancer):
        raise ConfigError(f"balance must make a Balancer, got {type(balancer).__name__}")
    return balancer


def _seeded(name: str) -> Balancer:
    return BALANCERS[name](random.getrandbits(64))
