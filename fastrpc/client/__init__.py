"""Call a server or a cluster: a target, its connections, stubs; with a loop or without."""

from fastrpc.client.blocking import BlockingClient, connect_sync
from fastrpc.client.client import Client
from fastrpc.client.connect import connect
from fastrpc.client.options import ClientOptions

__all__ = [
    "BlockingClient",
    "Client",
    "ClientOptions",
    "connect",
    "connect_sync",
]
