"""Errors are caught by the built-in they are, or by their own name, with their fields."""

from typing import Literal, assert_type

import fastrpc


def main(client_error: fastrpc.FastRPCError) -> None:
    if isinstance(client_error, fastrpc.CallError):
        assert_type(client_error.status, int)
        assert_type(client_error.ran, Literal["no", "maybe", "yes"])
    try:
        raise fastrpc.RpcError(7, "no such account", {"id": 3})
    except fastrpc.RemoteError as exc:
        assert_type(exc.code, int)
        assert_type(exc.trace, str | None)
        assert_type(exc.call_id, str)


class NotEnough(Exception):
    """Arrives as itself."""


server = fastrpc.Server(errors=[NotEnough])
server.register_error(NotEnough, "bank.NotEnough")
client = fastrpc.connect("tcp://127.0.0.1:7000", errors={"bank.NotEnough": NotEnough})
blocking = fastrpc.connect_sync("tcp://127.0.0.1:7000", errors=[NotEnough, KeyError])
timeout: TimeoutError = fastrpc.DeadlineExceeded()
lost: ConnectionError = fastrpc.ConnectionLost("gone")
wrong: ValueError = fastrpc.ConfigError("no")
