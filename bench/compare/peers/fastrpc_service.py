"""The service that all fastrpc peers serve, and how they are served."""

from collections.abc import Sequence
from typing import Any

import fastrpc
from bench.compare.peer import NotHere
from bench.values import Small
from fastrpc import frame


class Echo:
    """Answers with what it was given."""

    def echo(self, value):  # type: ignore[no-untyped-def]  # untyped on purpose
        """Return *value*, whatever it is."""
        return value

    async def later(self, value):  # type: ignore[no-untyped-def]
        """Return *value* from a coroutine."""
        return value

    def typed(self, value: Small) -> Small:
        """Return *value*, decoded into a dataclass."""
        return value

    def blob(self, value: bytes) -> bytes:
        """Return *value*."""
        return value


def require_twin(compiled: bool) -> None:
    """Refuse to measure the wrong twin: the figures would say nothing."""
    if compiled != frame.COMPILED:
        raise NotHere(
            "the compiled twin is not built for this Python (make install)"
            if compiled
            else "FASTRPC_PURE=1 did not choose the pure twin"
        )


async def serve(targets: Sequence[str]) -> None:
    """Serve `Echo` at *targets* until cancelled."""
    server = fastrpc.Server()
    server.register(Echo())
    for target in targets:
        await server.start(target)
    await server.serve_forever()


def tcp(port: int) -> str:
    """Return the target of the server on *port*."""
    return f"tcp://127.0.0.1:{port}"


METADATA: dict[str, Any] = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tenant": "acme",
    "user": "alice",
    "locale": "en-GB",
    "build": "2026-11-20",
}
