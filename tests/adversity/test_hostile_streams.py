"""Peers that abuse streams: each gets its answer or its goodbye, and nobody else notices."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

import fastrpc
from fastrpc.frame import encode_frame
from fastrpc.wire import BIT_END, CREDIT_MAX, Kind
from tests.adversity.raw_peer import (
    MSGPACK,
    Answer,
    RawPeer,
    call,
    goaway,
    pack,
    reply,
    unpack,
)
from tests.client.scripted import Peer, scripted
from tests.client.served import turn_until
from tests.interop.styles import rest_of, settled
from tests.server.serving import serving, use_twin

CALM = logging.getLogger("tests.calm")
CALM.setLevel(logging.CRITICAL)
WINDOW = 2000
LIMITS: dict[str, Any] = {"max_body": 4096, "max_calls": 8, "window": WINDOW, "ping_interval": 1e-6}
pytestmark = pytest.mark.asyncio


class Victim:
    """A stream of each kind."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.gate = asyncio.Event()

    def add(self, a: int, b: int) -> int:
        return a + b

    async def count(self, most: int) -> AsyncIterator[int]:
        try:
            for number in range(most):
                yield number
                if number % 50 == 49:
                    await asyncio.sleep(0)
        finally:
            self.ended.append("count")

    async def total(self, items: AsyncIterator[int]) -> int:
        result = 0
        try:
            async for item in items:
                result += item
        except BaseException as exc:
            self.ended.append(f"{type(exc).__name__}: {exc}")
            raise
        return result

    async def echo(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield item

    async def slow(self, items: AsyncIterator[int]) -> int:
        await self.gate.wait()
        return len([item async for item in items])

    async def first(self, items: AsyncIterator[int]) -> int:
        return await anext(items)  # and does not care for the rest


def opened(id: int, method: str, *args: Any, ended: bool = False, **more: Any) -> bytes:
    """Return the frame that opens a stream."""
    more.setdefault("serializer", MSGPACK)
    bits = more.pop("bits", 0) | (BIT_END if ended else 0)
    name = f"Victim.{method}".encode()
    return encode_frame(Kind.OPEN, id, name=name, payload=pack(list(args)), bits=bits, **more)


def data(id: int, value: Any = 1, *, last: bool = False, **more: Any) -> bytes:
    """Return an item of the caller's."""
    more.setdefault("serializer", MSGPACK)
    payload = more.pop("payload", None)
    payload = pack(value) if payload is None else payload
    bits = more.pop("bits", 0) | (BIT_END if last else 0)
    return encode_frame(Kind.DATA, id, payload=payload, bits=bits, **more)


def half(id: int, **more: Any) -> bytes:
    return encode_frame(Kind.HALF, id, **more)


def credit(id: int, arg: int, **more: Any) -> bytes:
    return encode_frame(Kind.CREDIT, id, arg=arg, **more)


def cancel(id: int) -> bytes:
    return encode_frame(Kind.CANCEL, id, status=42)


ITEM = len(data(1))
NO_CREDIT = b"".join(data(1) for _ in range(WINDOW // ITEM + 2))

# A handler that does not mind a bad item has run, so the call can't be called refused: 50.
#: What is sent -> what comes back, apart from credits and items. `goaway` is the end.
CASES: dict[str, tuple[bytes, tuple[Answer, ...]]] = {
    "items without credit": (opened(1, "slow") + NO_CREDIT, (goaway(70, "without credit"),)),
    "an item for nobody": (data(77) + call(1), (reply(1, value=5),)),
    "a reply's item for nobody": (data(77, reply=True) + call(1), (reply(1, value=5),)),
    "an item before OPEN": (data(1) + opened(1, "total") + data(1, 4, last=True), (reply(1, value=4),)),
    "items after END": (opened(1, "total") + data(1, 4, last=True) + data(1, 5) * 9, (reply(1, value=4),)),
    "END twice": (opened(1, "total") + data(1, 4, last=True) * 2, (reply(1, value=4),)),
    "END, then HALF": (opened(1, "total") + data(1, 4, last=True) + half(1), (reply(1, value=4),)),
    "HALF twice": (opened(1, "total") + data(1, 4) + half(1) * 2, (reply(1, value=4),)),
    "items after HALF": (opened(1, "total") + data(1, 4) + half(1) + data(1, 5) * 9, (reply(1, value=4),)),
    "HALF at once": (opened(1, "total") + half(1), (reply(1, value=0),)),
    "HALF for a call": (call(1) + half(1), (reply(1, value=5),)),
    "HALF for nobody": (half(99) + call(1), (reply(1, value=5),)),
    "HALF for a stream without items": (opened(1, "count", 0) + half(1), (reply(1),)),
    "items for a stream without": (opened(1, "count", 0) + data(1) * 9, (reply(1),)),
    "no credit at all": (opened(1, "echo") + credit(1, 0), (goaway(70, "credit of 0"),)),
    "too much credit": (opened(1, "echo") + credit(1, CREDIT_MAX), (goaway(70, "credit of"),)),
    "credit that adds up": (opened(1, "echo") + credit(1, CREDIT_MAX // 2) * 2 + credit(1, 2**20), (goaway(70, "credit of"),)),
    "credit for nobody": (credit(99, 0) + credit(99, 2**32 - 1) + call(1), (reply(1, value=5),)),
    "credit for a call": (call(1) + credit(1, 0), (reply(1, value=5),)),
    "credit for a stream that sends nothing": (opened(1, "total") + credit(1, 5) + half(1), (reply(1, value=0),)),
    "OPEN as a reply": (opened(1, "total", reply=True), (goaway(70, "reply"),)),
    "OPEN that is oneway": (opened(1, "total", oneway=True) + half(1), (reply(1, value=0),)),
    "OPEN that beats": (opened(1, "total", heartbeat=True) * 2, (goaway(70, "heartbeat"),)),
    "OPEN of a call": (opened(1, "add", 2, 3), (reply(1, 40, "is no stream"),)),
    "a call of a stream": (call(1, b"Victim.total", pack([])), (reply(1, 40, "is a stream"),)),
    "OPEN of nothing": (opened(1, "none") + data(1) * 9 + half(1), (reply(1, 44),)),
    "OPEN with the wrong arguments": (opened(1, "count", "many"), (reply(1, 40, "most"),)),
    "OPEN with an id again": (opened(1, "total") + opened(1, "total"), (goaway(70, "ids must rise"),)),
    "OPEN with MORE": (opened(1, "total", bits=0x80), (goaway(70, "MORE"),)),
    "OPEN compressed": (opened(1, "total", bits=0x20), (reply(1, 47, "compression"),)),
    "an item with MORE": (opened(1, "total") + data(1, bits=0x80), (goaway(70, "MORE"),)),
    "an item compressed": (opened(1, "total") + data(1, bits=0x20) + half(1), (reply(1, 60, "compression"),)),
    "an item in segments": (
        opened(1, "total") + data(1, payload=b"\0\0\0\1\0\0\0\1\5", bits=0x40) + half(1),
        (reply(1, 60, "segments"),),
    ),
    "an item over max_body": (opened(1, "total") + data(1, bytes(5000)) + half(1), (reply(1, 60, "max_body"),)),
    "an item too large to skip": (opened(1, "total") + data(1)[:16] + b"\x7f\0\0\0", (goaway(70, "body of"),)),
    "an item of another type": (opened(1, "total") + data(1, "one") + half(1), (reply(1, 60, "item 1"),)),
    "an item that is nothing": (opened(1, "total") + data(1) + data(1, payload=b"\xc1") + half(1), (reply(1, 60, "item 2"),)),
    "an item of no bytes": (opened(1, "total") + data(1, payload=b"") + half(1), (reply(1, 60, "item 1"),)),
    "an item too deep": (opened(1, "total") + data(1, payload=b"\x91" * 200 + b"\x90") + half(1), (reply(1, 60, "item 1"),)),
    "an item in another serializer": (opened(1, "total") + data(1, serializer=9) + half(1), (reply(1, 60, "item 1"),)),
    "an item in JSON": (opened(1, "total") + data(1, payload=b"41", serializer=2) + half(1), (reply(1, value=41),)),
    "an item with a name and metadata": (
        opened(1, "total") + data(1, 4, name=b"Victim.add", metadata=b"\1k\0\0") + half(1),
        (reply(1, value=4),),
    ),
    "an item that beats": (opened(1, "total") + data(1, 4, heartbeat=True) + half(1), (reply(1, value=4),)),
    "CANCEL, then a flood": (opened(1, "slow") + cancel(1) + data(1) * 5000 + call(2), (reply(2, value=5),)),
    "CANCEL twice": (opened(1, "slow") + cancel(1) * 2 + call(2), (reply(2, value=5),)),
    "OPEN and CANCEL in one": (b"".join(opened(n, "slow") + cancel(n) for n in range(1, 5)) + call(9), (reply(9, value=5),)),
    "a handler that takes one": (opened(1, "first") + data(1, 4) * 20, (reply(1, value=4),)),
    "a reply nobody waits for": (encode_frame(Kind.CALL, 1, reply=True) + call(1), (reply(1, value=5),)),
}  # fmt: skip


def told(frame: Any) -> bool:
    """Say whether a frame is more than an item or a credit."""
    return frame.kind not in (Kind.DATA, Kind.CREDIT)


@pytest.mark.parametrize("size", [0, 3], ids=["at once", "in pieces"])
@pytest.mark.parametrize("case", CASES)
async def test_each_case_has_its_answer(
    case: str, size: int, twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_twin(monkeypatch, twin)
    sent, answers = CASES[case]
    size = size and max(size, len(sent) // 300)
    ends = bool(answers) and answers[-1].__qualname__.startswith("goaway")
    async with serving(Victim(), log=CALM, **LIMITS) as server:
        async with await RawPeer.greeted(server.targets[0]) as honest:
            async with await RawPeer.greeted(server.targets[0]) as peer:
                if size:
                    await peer.drip(sent, size)
                else:
                    peer.send(sent)
                frames: list[Any] = []
                if ends:
                    frames = [frame for frame in await peer.rest() if told(frame)]
                else:
                    for _ in answers:
                        while not told(frame := await peer.frame()):
                            pass
                        frames.append(frame)
                    frames += [frame for frame in await peer.until_pong(987_654) if told(frame)]
                wrong = [
                    bad
                    for check, frame in zip(answers, frames, strict=False)
                    if (bad := check(frame))
                ]
                assert not wrong, wrong
                assert len(frames) == len(answers), frames
            honest.send(call(1))
            assert (await honest.reply(1)).payload == b"\x05"
        await turn_until(lambda: not server.stats().running)
        assert await settled([server]) == {}


@pytest.fixture(autouse=True)
def _twin_of_all(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "twin" not in request.fixturenames:
        return
    use_twin(monkeypatch, request.getfixturevalue("twin"))


async def test_what_a_handler_sees_of_a_bad_item() -> None:
    victim = Victim()
    async with serving(victim, log=CALM, **LIMITS) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            peer.send(opened(1, "total"), data(1, 1), data(1, "secret"), half(1))
            await peer.reply(1)
    (words,) = victim.ended
    assert words.startswith("InvalidArgument: Victim.total: item 2")
    assert "secret" not in words


async def test_streams_up_to_the_limit_and_past_it() -> None:
    async with serving(Victim(), log=CALM, **LIMITS) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            peer.send(b"".join(opened(n, "slow") for n in range(1, 21)))
            refused = [await peer.reply(n) for n in range(9, 21)]
            assert {frame.status for frame in refused} == {52}
            assert server.stats().running == 8
            peer.send(half(1))
            peer.send(cancel(2), cancel(3))
            await turn_until(lambda: server.stats().running == 6)
            peer.send(opened(21, "total"), data(21, 6, last=True))
            assert unpack((await peer.reply(21)).payload) == 6


async def test_a_hundred_thousand_empty_items(twin: SimpleNamespace) -> None:
    """They cost 20 bytes each, so a window full of them is the most that waits."""
    victim = Victim()
    async with serving(victim, log=CALM, **LIMITS | {"window": 2**18}) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            peer.send(opened(1, "slow"), data(1, payload=b"") * 100_000)
            frames = await peer.rest()
            assert goaway(70, "without credit")(frames[-1]) == ""
        await turn_until(lambda: not server.stats().running)


async def test_a_sender_waits_for_credit_that_never_comes(twin: SimpleNamespace) -> None:
    victim = Victim()
    async with serving(victim, log=CALM, **LIMITS) as server:
        async with await RawPeer.greeted(server.targets[0], window=100) as peer:
            peer.send(opened(1, "count", 10**6, ended=True, time=30))
            frames = [await peer.frame() for _ in range(6)]
            assert [frame.kind for frame in frames if frame] == [Kind.DATA] * 5 + [Kind.CALL]
            assert frames[-1] is not None
            assert frames[-1].status == 51
            assert await peer.until_pong(5) == []
        assert victim.ended == ["count"]
        await turn_until(lambda: not server.stats().running)


async def test_windows_of_one_byte(twin: SimpleNamespace) -> None:
    async with serving(Victim(), log=CALM, **LIMITS | {"window": 1}) as server:
        async with fastrpc.connect(server.targets[0], window=1) as client:
            items = range(100, 150)
            async with client.stream("Victim.echo") as stream:

                async def send() -> None:
                    for item in items:
                        await stream.send(item)
                    await stream.end()

                sending = asyncio.ensure_future(send())
                assert [item async for item in stream] == list(items)
                await sending


async def test_streams_that_are_opened_only_to_be_cancelled(twin: SimpleNamespace) -> None:
    """Rapid reset: places are free when handlers have ended, and the flood ends the connection."""
    async with serving(Victim(), log=CALM, **LIMITS) as server:
        most = 0
        async with await RawPeer.greeted(server.targets[0]) as honest:
            async with await RawPeer.greeted(server.targets[0]) as peer:
                for first in range(1, 3000, 50):
                    ids = range(first, first + 50)
                    peer.send(b"".join(opened(n, "slow") + cancel(n) for n in ids))
                    await asyncio.sleep(0)
                    most = max(most, server.stats().running)
                frames = await peer.rest()
            assert goaway(71, "cancelled")(frames[-1]) == ""
            assert most <= LIMITS["max_calls"]
            honest.send(call(1))
            assert (await honest.reply(1)).payload == b"\x05"
        await turn_until(lambda: not server.stats().running)


async def test_what_is_broken_stays_on_its_connection(twin: SimpleNamespace) -> None:
    """A stream of an honest client goes on while others are thrown out."""
    async with serving(Victim(), log=CALM, **LIMITS) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            stream = client.stream("Victim.count", 20_000)
            got = [await anext(aiter(stream))]
            for sent, _ in list(CASES.values())[::5]:
                async with await RawPeer.greeted(server.targets[0]) as peer:
                    peer.send(sent)
                    got += [await anext(aiter(stream)) for _ in range(100)]
            async for item in stream:
                got.append(item)
            assert got == list(range(20_000))


# ------------------------------------------------------------- a server that abuses clients


def serve_wrongly(play: Callable[[Peer, int], None]) -> Callable[[Peer], None]:
    """Return a server that says HELLO, waits for OPEN, and lets *play* go on."""

    def act(peer: Peer) -> None:
        peer.hello()
        while (frame := peer.read()).kind != Kind.OPEN:
            pass
        play(peer, frame.id)
        peer.until_end()

    return act


def item(id: int, value: Any = 1, **more: Any) -> bytes:
    return data(id, value, reply=True, **more)


def end(id: int, **more: Any) -> bytes:
    return encode_frame(Kind.CALL, id, reply=True, **more)


#: How a server answers OPEN -> (items that arrive, the error if it is none, words of it)
SERVERS: dict[str, tuple[Callable[[int], bytes], int, str, str]] = {
    "properly": (lambda id: item(id) * 3 + end(id), 3, "", ""),
    "items after the end": (lambda id: item(id) * 3 + end(id) + item(id) * 50, 3, "", ""),
    "the end twice": (lambda id: item(id) + end(id) * 2, 1, "", ""),
    "items for another": (lambda id: item(id + 7) * 9 + item(id) + end(id), 1, "", ""),
    "items without credit": (lambda id: item(id) * 500, 0, "ConnectionLost", "without credit"),
    "no credit": (lambda id: item(id) + credit(id, 0, reply=True), 1, "ConnectionLost", "credit of 0"),
    "too much credit": (lambda id: credit(id, CREDIT_MAX, reply=True), 0, "ConnectionLost", "credit"),
    "HALF as a reply": (lambda id: item(id) + half(id, reply=True), 1, "ConnectionLost", "reply"),
    "an item that is nothing": (lambda id: item(id) + item(id, payload=b"\xc1"), 1, "CodecError", "item 2"),
    "an item compressed": (lambda id: item(id, bits=0x20), 0, "Unsupported", "item 1"),
    "an item too deep": (lambda id: item(id, payload=b"\x91" * 500 + b"\x90"), 0, "TooLarge", "item 1"),
    "an item with MORE": (lambda id: item(id) + item(id, bits=0x80), 1, "ConnectionLost", "MORE"),
    "an error in the middle": (lambda id: item(id) * 2 + end(id, status=50), 2, "RemoteError", ""),
    "an end that is nothing": (lambda id: item(id) + end(id, payload=b"\xc1", serializer=MSGPACK), 1, "CodecError", ""),
    "a refusal": (lambda id: end(id, status=52), 0, "Overloaded", ""),
    "a pong in its place": (lambda id: item(id) + end(id, heartbeat=True) + end(id), 1, "", ""),
    "GOAWAY": (lambda id: item(id) + encode_frame(Kind.GOAWAY, 0, status=53), 1, "ConnectionDraining", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", SERVERS)
async def test_a_client_outlives_each_server(case: str, twin: SimpleNamespace) -> None:
    answer, count, error, words = SERVERS[case]

    def play(peer: Peer, id: int) -> None:
        peer.write(answer(id))

    with scripted(serve_wrongly(play)) as server:
        client = fastrpc.connect(server.target, timeout=5.0, window=WINDOW)
        async with client:
            session = client.lanes[0].owner
            got, ended = [], ""
            try:
                async for value in client.stream("Victim.count", 5):
                    got.append(value)
            except fastrpc.FastRPCError as exc:
                ended = type(exc).__name__
                assert words in str(exc)
            assert ended == error
            assert got[:count] == [1] * count
            if (
                error != "ConnectionLost"
            ):  # else what came before it, or as much of it as was in time
                assert len(got) == count
            assert rest_of(session) == {}


async def test_a_hello_of_a_server_with_a_window_of_one(twin: SimpleNamespace) -> None:
    sizes: list[int] = []

    def play(peer: Peer) -> None:
        peer.hello(window=1)
        while (frame := peer.read()).kind != Kind.OPEN:
            pass
        for _ in range(3):  # one item for each credit
            assert peer.read().kind == Kind.DATA
            sizes.append(len(peer._frames))
            peer.write(credit(frame.id, 1 + ITEM, reply=True))
        peer.write(end(frame.id))
        peer.until_end()

    with scripted(play) as server:
        async with fastrpc.connect(server.target, timeout=5.0) as client:
            async with client.stream("Victim.total") as stream:
                with pytest.raises(fastrpc.StreamEnded):
                    while True:
                        await stream.send(1)
    assert sizes == [0, 0, 0]
