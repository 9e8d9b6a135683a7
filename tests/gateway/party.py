"""A tongue between a real session and a peer that is played by the test."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgpack

from fastrpc import Peer, RpcError
from fastrpc.gateway.bridge import hello
from fastrpc.gateway.jsonrpc import JsonRpc
from fastrpc.gateway.lines import JsonLines
from fastrpc.gateway.msgpackrpc import MsgpackRpc
from fastrpc.gateway.tongue import Tongue, shapes_of
from tests.session.rig import Rig


class Arith:
    """What the peers of these tests call."""

    def __init__(self) -> None:
        self.noted: list[Any] = []
        self.given_up = 0
        self.gate: asyncio.Event = asyncio.Event()

    def add(self, a: int, b: int) -> int:
        return a + b

    def subtract(self, minuend: int, subtrahend: int) -> int:
        return minuend - subtrahend

    def note(self, value: Any) -> None:
        self.noted.append(value)

    def echo(self, value: Any) -> Any:
        return value

    def fail(self, text: str) -> None:
        raise RpcError(1001, text, {"seen": [1, 2]})

    def crash(self) -> None:
        raise ZeroDivisionError("by nothing")

    def blob(self, size: int) -> bytes:
        return b"x" * size

    async def wait(self) -> str:
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return "done"

    async def count(self, n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    async def total(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    async def ask(self, peer: Peer, name: str, value: Any) -> Any:
        return await peer.call(name, value)

    def tell(self, peer: Peer, name: str, value: Any) -> None:
        peer.notify(name, value)


class Party:
    """One connection: *said* is what the peer gets, *hear* what it says."""

    def __init__(
        self, tongue: type[Tongue], *, dialled: bool = False, limits: dict[str, Any] | None = None,
        services: tuple[Any, ...] = (), **given: Any,
    ) -> None:  # fmt: skip
        self.arith = Arith()
        served = services or (() if dialled else (self.arith,))
        self.rig = Rig(*served, client=dialled, **(limits or {}))
        self.said: list[bytes] = []
        self.tongue = tongue(
            self.said.append, self.rig.feed, limits=self.rig.limits, dialled=dialled,
            shape_of=shapes_of(self.rig.side.router), **given,
        )  # fmt: skip
        self.rig.connect()
        if not dialled:
            self.rig.feed(hello(self.rig.limits, "party"))
        self.rig.session.lane.serializer = int(tongue.serializer)
        self.pump()

    def pump(self) -> None:
        """Give the tongue what the session has written."""
        for frame in self.rig.frames():
            self.tongue.take(frame)

    async def settle(self) -> "Party":
        """Let everything happen that can."""
        for _ in range(20):
            self.pump()
            await asyncio.sleep(0)
        self.pump()
        return self

    def hear(self, data: bytes) -> list[bytes]:
        """Let the peer say *data*; return what it gets for it at once."""
        before = len(self.said)
        self.tongue.feed(data)
        self.pump()
        return self.said[before:]

    def told(self) -> list[bytes]:
        """Return what was said since the last look."""
        said = self.said[:]
        self.said.clear()
        return said


class JsonParty(Party):
    """The same with JSON: values instead of bytes."""

    def __init__(self, tongue: type[Tongue] = JsonRpc, **given: Any) -> None:
        super().__init__(tongue, **given)

    def ask(self, message: Any) -> Any:
        """Say *message*, a value or a text; return the answer, None if there is none."""
        text = message if isinstance(message, str) else json.dumps(message)
        got = self.hear(text.encode())
        assert len(got) <= 1
        return json.loads(got[0]) if got else None

    def values(self) -> list[Any]:
        return [json.loads(text) for text in self.told()]


class LineParty(JsonParty):
    def __init__(self, **given: Any) -> None:
        super().__init__(JsonLines, **given)


class PackParty(Party):
    """The same with msgpack-rpc."""

    def __init__(self, **given: Any) -> None:
        super().__init__(MsgpackRpc, **given)

    def ask(self, *message: Any) -> Any:
        got = self.hear(msgpack.packb(list(message)))
        assert len(got) <= 1
        return msgpack.unpackb(got[0]) if got else None

    def values(self) -> list[Any]:
        return [msgpack.unpackb(text) for text in self.told()]


def request(method: str, params: Any = None, id: Any = 1, **more: Any) -> dict[str, Any]:
    """Return a request of JSON-RPC 2.0; without an id it is a notification."""
    made = {"jsonrpc": "2.0", "method": method}
    if params is not None:
        made["params"] = params
    return made | ({} if id is None else {"id": id}) | more
