"""Make the balancer that a client's options ask for."""

import functools

from fastrpc.cluster.balancers.contract import Balancer
from fastrpc.cluster.balancers.names import make_balancer
from fastrpc.cluster.balancers.zones import ZoneFirst
from fastrpc.cluster.options import ClusterOptions
from fastrpc.errors import ConfigError

__all__ = ["balancer_for"]


def balancer_for(options: ClusterOptions) -> Balancer:
    """Return the balancer that *options* ask for.

    Raises:
        ConfigError: There is none of that name, or what makes one of the user's own makes
            something else.
    """
    wanted = options.balance
    make = wanted if callable(wanted) else functools.partial(make_balancer, wanted)
    balancer = ZoneFirst(make, options.zone) if options.zone else make()
    if not isinstance(balancer, Balancer):
        raise ConfigError(f"balance must make a Balancer, got {type(balancer).__name__}")
    return balancer
