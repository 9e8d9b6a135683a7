"""A call with a serializer that HELLO did not agree on is answered with 47, and not run."""

import json
import logging
from typing import Any

import pytest

from tests.adversity.raw_peer import JSON, MSGPACK, RawPeer, call, message, pack, unpack
from tests.server.serving import serving

CALM = logging.getLogger("tests.calm")
CALM.setLevel(logging.CRITICAL)
pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("both_twins")]

RAW = 0
NAMES = {"raw": RAW, "msgpack": MSGPACK, "json": JSON}


class Echo:
    """Gives back what it was given, on every way there is."""

    def __init__(self) -> None:
        self.calls = 0

    def echo(self, value: bytes) -> Any:
        self.calls += 1
        return value

    async def later(self, value: bytes) -> Any:
        self.calls += 1
        return value

    def size(self, value: bytes) -> int:
        self.calls += 1
        return len(value)


def payload(serializer: int) -> bytes:
    return {RAW: b"ab", MSGPACK: pack([b"ab"]), JSON: json.dumps(["YWI="]).encode()}[serializer]


@pytest.mark.parametrize("method", [b"Echo.echo", b"Echo.later"])
@pytest.mark.parametrize("named", [["msgpack"], ["json"], ["raw"], ["raw", "json"], list(NAMES)])
async def test_only_what_hello_named_is_taken(named: list[str], method: bytes) -> None:
    service = Echo()
    async with serving(service, log=CALM) as server:
        codecs = {name: NAMES[name] for name in named}
        async with await RawPeer.greeted(server.targets[0], codecs=codecs) as peer:
            for id, (name, serializer) in enumerate(NAMES.items(), 1):
                before = service.calls
                peer.send(call(id, method, payload(serializer), serializer=serializer))
                answer = await peer.reply(id)
                assert answer.status == (0 if name in named else 47), name
                assert service.calls == before + (name in named)
                if answer.status:
                    assert f"serializer {serializer} was not agreed on" in message(answer)
            # By number, and to nobody: nothing else has changed for such a peer.
            known = NAMES[named[0]]
            peer.send(
                call(4, method, payload(known), serializer=known, arg=1),
                call(5, b"", payload(known), serializer=known, arg=1),
                call(6, b"No.such", payload(known), serializer=known),
            )
            assert [(await peer.reply(id)).status for id in (4, 5, 6)] == [0, 0, 44]
        assert server.stats().methods[method.decode()][0] == service.calls


async def test_nor_is_a_result_sent_with_another() -> None:
    async with serving(Echo(), log=CALM) as server:
        async with await RawPeer.greeted(server.targets[0], codecs={"raw": RAW}) as peer:
            peer.send(call(1, b"Echo.size", b"abc", serializer=RAW))
            answer = await peer.reply(1)
            assert (answer.status, answer.serializer) == (54, MSGPACK)  # as all errors are
            assert "was not agreed on" in unpack(answer.payload)["message"]


async def test_a_large_result_is_no_raw_one_then() -> None:
    async with serving(Echo(), log=CALM) as server:
        async with await RawPeer.greeted(server.targets[0], codecs={"msgpack": MSGPACK}) as peer:
            peer.send(call(1, b"Echo.echo", pack([bytes(100_000)])))
            answer = await peer.reply(1)
            assert (answer.status, answer.serializer) == (0, MSGPACK)
            assert unpack(answer.payload) == bytes(100_000)


async def test_draining_comes_first() -> None:
    async with serving(Echo(), log=CALM) as server:
        async with await RawPeer.greeted(server.targets[0], codecs={"msgpack": MSGPACK}) as peer:
            (session,) = server._hall.sessions
            session.drain()
            peer.send(call(1, b"Echo.echo", payload(MSGPACK)))
            assert (await peer.reply(1)).status == 53
