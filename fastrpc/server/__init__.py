"""Listen, route, limit, drain: everything about serving that is not one connection."""

from fastrpc.server.doors import DOORS
from fastrpc.server.http import HttpOptions
from fastrpc.server.options import ServerOptions
from fastrpc.server.run import run
from fastrpc.server.server import Server

__all__ = ["DOORS", "HttpOptions", "Server", "ServerOptions", "run"]
