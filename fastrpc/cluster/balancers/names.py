"""Know the balancers by the names that options have."""

import random
from collections.abc import Callable, Mapping
from typing import Final, cast

from fastrpc.cluster.balancers.chance import Random
from fastrpc.cluster.balancers.contract import Balancer
from fastrpc.cluster.balancers.hashing import ConsistentHash
from fastrpc.cluster.balancers.least import LeastInFlight
from fastrpc.cluster.balancers.turns import RoundRobin
from fastrpc.cluster.balancers.weighted import SmoothWeighted
from fastrpc.errors import ConfigError
from fastrpc.frame import TwoChoices

Balancer.register(TwoChoices)  # compiled, it can't have a base class of Python's

#: What makes each, from the seed of its chance.
BALANCERS: Final[Mapping[str, Callable[[int], Balancer]]] = {
    "two_choices": lambda seed: cast("Balancer", TwoChoices(seed)),
    "random": Random,
    "round_robin": RoundRobin,
    "weighted": SmoothWeighted,
    "least_in_flight": LeastInFlight,
    "consistent_hash": lambda seed: ConsistentHash(seed=seed),
}


def make_balancer(name: str, seed: int | None = None) -> Balancer:
    """Return a new balancer of that name.

    Args:
        name: One of `BALANCERS`.
        seed: Of its chance; any if None.

    Raises:
        ConfigError: There is none of that name.
    """
    if name not in BALANCERS:
        raise ConfigError(f"balance must be one of {', '.join(BALANCERS)}; got {name!r}")
    return BALANCERS[name](random.getrandbits(64) if seed is None else seed)
