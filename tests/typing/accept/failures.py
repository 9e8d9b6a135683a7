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


timeout: TimeoutError = fastrpc.DeadlineExceeded()
lost: ConnectionError = fastrpc.ConnectionLost("gone")
wrong: ValueError = fastrpc.ConfigError("no")
