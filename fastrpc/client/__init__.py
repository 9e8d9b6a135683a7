"""Call a server: one target, its connections, stubs; with a loop or without."""

from fastrpc.client.blocking import BlockingClient, connect_sync
from fastrpc.client.client import Client, ClientView, connect
from fastrpc.client.options import ClientOptions
from fastrpc.client.shapes import AsyncStream

__all__ = [
    "AsyncStream",
    "BlockingClient",
    "Client",
    "ClientOptions",
    "ClientView",
    "connect",
    "connect_sync",
]
