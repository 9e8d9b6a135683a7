"""Call a server or a cluster: a target, its connections, stubs; with a loop or without."""

from fastrpc.client.blocking_face import BlockingClient
from fastrpc.client.broadcast import BroadcastFailed, InstanceResult, InstanceResults
from fastrpc.client.client import Client
from fastrpc.client.connect import connect, connect_sync
from fastrpc.client.options import ClientOptions
from fastrpc.client.shard import ShardFailed

__all__ = [
    "BlockingClient",
    "BroadcastFailed",
    "Client",
    "ClientOptions",
    "InstanceResult",
    "InstanceResults",
    "ShardFailed",
    "connect",
    "connect_sync",
]
