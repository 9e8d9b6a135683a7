"""A session with a translator under it in place of a socket."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

import fastrpc
from fastrpc.frame import Frame, encode_frame
from fastrpc.gateway.bridge import Bridge, inside
from fastrpc.wire import BIT_END, Kind, Limits, Serializer
from tests.server.serving import serving, until


class Arith:
    def add(self, a: int, b: int) -> int:
        return a + b

    async def wait(self) -> int:
        await asyncio.Event().wait()
        return 1

    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    async def ask(self, peer: fastrpc.Peer = fastrpc.GIVEN) -> int:
        return 1 + await peer.call("Page.number")  # type: ignore[no-any-return]


class Outer(asyncio.Transport):
    """The far end's connection, as far as a bridge looks at it."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.is_paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("10.9.8.7", 654)}.get(name, default)

    def get_write_buffer_size(self) -> int:
        return self.size

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Far:
    """What a translator sees."""

    def __init__(self, server: fastrpc.Server, limits: Limits | None = None) -> None:
        self.frames: list[Frame] = []
        self.closed: list[bool] = []
        self.outer = Outer()
        self.bridge: Bridge = inside(
            server._hall, "http://10.9.8.7:654", self.outer, self.frames.append,
            self.closed.append, agent="tests", limits=limits,
        )  # fmt: skip

    async def reply(self, number: int) -> Frame:
        def found() -> list[Frame]:
            return [
                each for each in self.frames
                if each.reply and each.id == number and each.kind == Kind.CALL
            ]  # fmt: skip

        await until(found)
        return found()[0]


def call(number: int, name: str, payload: bytes = b"[]", **more: Any) -> bytes:
    kind = more.pop("kind", Kind.CALL)
    return encode_frame(
        kind, number, serializer=Serializer.JSON, name=name.encode(), payload=payload, **more
    )


@contextlib.asynccontextmanager
async def bridged(**options: Any) -> AsyncIterator[tuple[fastrpc.Server, Far]]:
    async with serving(Arith(), **options) as server:
        far = Far(server)
        yield server, far
        far.bridge.lose()


@pytest.mark.asyncio
async def test_json_goes_in_and_comes_out_as_it_is() -> None:
    async with bridged() as (_, far):
        far.bridge.feed(call(1, "Arith.add", b"[2,3]"))
        far.bridge.feed(call(2, "Arith.add", b'{"a":2,"b":40}'))
        assert (await far.reply(1)).payload == b"5"
        assert (await far.reply(2)).payload == b"42"
        assert far.frames[0].kind == Kind.HELLO
        assert far.frames[0].status == 0


@pytest.mark.asyncio
async def test_the_session_knows_its_peer_and_is_counted_once() -> None:
    async with bridged() as (server, far):
        assert [peer.address for peer in server.peers] == ["http://10.9.8.7:654"]
        assert server.stats().connections == 0, "who came in is the visitor outside"
        assert far.bridge.get_extra_info("peername") == ("10.9.8.7", 654)


@pytest.mark.asyncio
async def test_a_handler_calls_the_far_end() -> None:
    async with bridged() as (_, far):
        far.bridge.feed(call(1, "Arith.ask"))
        await until(lambda: any(not each.reply and each.kind == 0 for each in far.frames))
        (asked,) = [each for each in far.frames if not each.reply and each.kind == Kind.CALL]
        assert asked.name == b"Page.number"
        far.bridge.feed(
            encode_frame(Kind.CALL, asked.id, reply=True, serializer=Serializer.JSON, payload=b"41")
        )
        assert (await far.reply(1)).payload == b"42"


@pytest.mark.asyncio
async def test_pings_are_answered_here() -> None:
    async with bridged() as (server, far):
        (session,) = server._hall.sessions
        async with asyncio.timeout(5):
            assert await session.ping() >= 0.0
        assert not [each for each in far.frames if each.heartbeat]


@pytest.mark.asyncio
async def test_a_far_end_that_is_gone_takes_its_handlers_along() -> None:
    async with bridged() as (server, far):
        far.bridge.feed(call(1, "Arith.wait"))
        await until(lambda: server.stats().running == 1)
        far.bridge.lose()
        await until(lambda: server.stats().running == 0)
        far.bridge.lose()  # twice is fine
        far.bridge.feed(call(2, "Arith.add", b"[1,1]"))  # and nobody minds


@pytest.mark.asyncio
async def test_a_slow_far_end_holds_the_items_back() -> None:
    async with bridged() as (_, far):
        far.bridge.pause_writing()
        far.outer.size = 2**20
        far.bridge.feed(call(1, "Arith.count", b"[100000]", kind=Kind.OPEN, bits=BIT_END))
        for _ in range(50):
            await asyncio.sleep(0)
        assert far.outer.is_paused, "requests are not read from who does not read answers"
        held = len(far.frames)
        far.outer.size = 0
        far.bridge.resume_writing()
        await until(lambda: len(far.frames) > held)
        assert not far.outer.is_paused


@pytest.mark.asyncio
async def test_drain_finishes_what_runs_and_closes() -> None:
    async with serving(Arith()) as server:
        far = Far(server)
        far.bridge.feed(call(1, "Arith.add", b"[1,2]"))
        await far.reply(1)
        await server.aclose(1.0)
        assert Kind.GOAWAY in [each.kind for each in far.frames]
        assert far.closed == [False]
        assert not far.bridge.is_open


@pytest.mark.asyncio
async def test_who_comes_during_a_drain_is_sent_away() -> None:
    async with serving(Arith()) as server:
        server._hall.is_closing = True
        far = Far(server)
        assert far.closed == [True]


@pytest.mark.asyncio
async def test_nonsense_ends_the_session_with_a_reason() -> None:
    async with bridged() as (_, far):
        far.bridge.feed(b"\0" * 40)
        await until(lambda: far.closed)
        assert far.frames[-1].kind == Kind.GOAWAY
        assert far.frames[-1].status == 70
