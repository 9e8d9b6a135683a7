"""Choose the instance that a call goes to: by chance, in turn, by load, by key.

Rules of the room:
  * a balancer is a state machine: it has no clock, no task and no connection;
  * it is given the members that may be called now, and never learns why others may not;
  * none counts calls: a member knows what it has in flight.
"""

from fastrpc.cluster.balancers.chance import Random
from fastrpc.cluster.balancers.contract import Balancer, Candidate
from fastrpc.cluster.balancers.hashing import ConsistentHash
from fastrpc.cluster.balancers.least import LeastInFlight
from fastrpc.cluster.balancers.names import BALANCERS, make_balancer
from fastrpc.cluster.balancers.slowstart import slow_start
from fastrpc.cluster.balancers.subset import Subset
from fastrpc.cluster.balancers.turns import RoundRobin
from fastrpc.cluster.balancers.weighted import SmoothWeighted
from fastrpc.cluster.balancers.zones import ZoneFirst

__all__ = [
    "BALANCERS",
    "Balancer",
    "Candidate",
    "ConsistentHash",
    "LeastInFlight",
    "Random",
    "RoundRobin",
    "SmoothWeighted",
    "Subset",
    "ZoneFirst",
    "make_balancer",
    "slow_start",
]
