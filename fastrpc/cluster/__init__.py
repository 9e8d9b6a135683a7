"""See many servers as one: registries, lists of instances, balancing."""

from fastrpc.cluster.announcer import Announcer, AnnounceStats, EntryStats
from fastrpc.cluster.balancers import Balancer, Candidate
from fastrpc.cluster.client import connect_registry
from fastrpc.cluster.engines import open_registry
from fastrpc.cluster.instance import Instance, InstanceState
from fastrpc.cluster.options import ClusterOptions
from fastrpc.cluster.registries.memory import MemoryRegistry, MemoryStore
from fastrpc.cluster.registry import Change, Gone, Listing, Losses, Put, Registry
from fastrpc.cluster.resolver import Resolver, ResolverStats
from fastrpc.cluster.roll import Freshness
from fastrpc.cluster.target import ClusterTarget, is_cluster, parse_cluster

__all__ = [
    "AnnounceStats",
    "Announcer",
    "Balancer",
    "Candidate",
    "Change",
    "ClusterOptions",
    "ClusterTarget",
    "EntryStats",
    "Freshness",
    "Gone",
    "Instance",
    "InstanceState",
    "Listing",
    "Losses",
    "MemoryRegistry",
    "MemoryStore",
    "Put",
    "Registry",
    "Resolver",
    "ResolverStats",
    "connect_registry",
    "is_cluster",
    "open_registry",
    "parse_cluster",
]
