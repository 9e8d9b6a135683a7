"""See many servers as one: registries, lists of instances, balancing."""

from fastrpc.cluster.engines import open_registry
from fastrpc.cluster.instance import Instance, InstanceState
from fastrpc.cluster.registries.memory import MemoryRegistry, MemoryStore
from fastrpc.cluster.registry import Change, Gone, Listing, Put, Registry
from fastrpc.cluster.target import ClusterTarget, is_cluster, parse_cluster

__all__ = [
    "Change",
    "ClusterTarget",
    "Gone",
    "Instance",
    "InstanceState",
    "Listing",
    "MemoryRegistry",
    "MemoryStore",
    "Put",
    "Registry",
    "is_cluster",
    "open_registry",
    "parse_cluster",
]
