"""Call a server: one target, its connections, stubs; with a loop or without."""

from fastrpc.client.blocking import BlockingClient, connect_sync
from fastrpc.client.client import Client, connect
from fastrpc.client.options import ClientOptions

__all__ = [
    "BlockingClient",
    "Client",
    "ClientOptions",
    "connect",
    "connect_sync",
]
