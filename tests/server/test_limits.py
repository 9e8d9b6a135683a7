"""Each limit of calls, at the limit and one past it."""

import asyncio
import logging
from typing import Any

import pytest

import fastrpc
from fastrpc.frame import encode_frame
from fastrpc.wire import Kind
from tests.adversity.raw_peer import RawPeer, call, message, pack
from tests.server.serving import Waiting, serving, until

CALM = logging.getLogger("tests.calm")
pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("both_twins")]


class Work(Waiting):
    """Something to do."""

    def echo(self, value: Any) -> Any:
        return value

    async def echo_later(self, value: Any) -> Any:
        await asyncio.sleep(0)
        return value

    def named(self, *, value: Any) -> Any:
        return value


def wait(id: int) -> bytes:
    return call(id, b"Work.wait", b"\x90")


async def test_max_calls_of_one_connection() -> None:
    service = Work()
    async with serving(service, log=CALM, max_calls=3) as server:
        honest = await RawPeer.greeted(server.targets[0])
        async with honest, await RawPeer.greeted(server.targets[0]) as peer:
            peer.send(*(wait(id) for id in range(1, 5)))
            refused = await peer.reply(4)
            assert (refused.status, "max_calls" in message(refused)) == (52, True)
            peer.send(call(5, b"Work.add"), wait(6))  # what needs no place is answered still
            assert (await peer.reply(5)).status == 0
            assert (await peer.reply(6)).status == 52
            honest.send(wait(1), wait(2), wait(3))
            await until(lambda: server.stats().running == 6)
            peer.send(encode_frame(Kind.CANCEL, 1, status=42))
            await until(lambda: server.stats().running == 5)
            peer.send(wait(7))
            service.go_on.set()
            assert {(await peer.frame()).id for _ in range(3)} == {2, 3, 7}  # type: ignore[union-attr]
            assert server.stats().refused == 2


async def test_max_running_of_the_whole_server() -> None:
    service = Work()
    async with serving(service, log=CALM, max_running=5, max_calls=4) as server:
        peers = [await RawPeer.greeted(server.targets[0]) for _ in range(2)]
        for peer in peers:
            peer.send(*(wait(id) for id in range(1, 4)))
        await until(lambda: server.stats().calls == 6)
        assert server.stats().running == 5
        refused = await peers[1].reply(3)
        assert (refused.status, "max_running" in message(refused)) == (52, True)
        await peers[0].aclose()
        service.go_on.set()
        assert [(await peers[1].reply(id)).status for id in (1, 2)] == [0, 0]
        await peers[1].aclose()


async def test_a_client_keeps_to_max_calls_by_itself() -> None:
    service = Work()
    async with serving(service, log=CALM, max_calls=4) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            calls = [asyncio.ensure_future(client.call("Work.wait")) for _ in range(20)]
            await until(lambda: server.stats().running == 4)
            service.go_on.set()
            assert await asyncio.gather(*calls) == ["done"] * 20
        assert server.stats().refused == 0


@pytest.mark.parametrize("method", ["Work.echo", "Work.echo_later"])
async def test_max_body_of_requests(method: str) -> None:
    # The name goes with the first call only, and the client does not count it.
    async with serving(Work(), log=CALM, max_body=1000) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            await client.call(method, b"")
            at = 1000 - 4
            assert len(await client.call(method, bytes(at))) == at
            with pytest.raises(fastrpc.TooLarge, match="max_body of 1000") as caught:
                await client.call(method, bytes(at + 1))
            assert caught.value.ran == "no"
            assert await client.call(method, 5) == 5


@pytest.mark.parametrize("method", [b"Work.echo", b"Work.echo_later", b"Work.named"])
@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_depth_and_items_of_a_payload(method: bytes, codec: str) -> None:
    limits = {"max_depth": 8, "max_items": 100}
    serializer = 1 if codec == "msgpack" else 2
    named = method == b"Work.named"

    def nested(depth: int) -> bytes:
        if codec == "json":
            value = b"[" * depth + b"]" * depth
            return b'{"value":' + value + b"}" if named else b"[" + value + b"]"
        value = b"\x91" * (depth - 1) + b"\x90"
        return (b"\x81\xa5value" if named else b"\x91") + value

    def many(count: int) -> bytes:
        if codec == "json":
            value = b"[" + b",".join([b"1"] * count) + b"]"
            return b'{"value":' + value + b"}" if named else b"[" + value + b"]"
        value = pack([1] * count)
        return (b"\x81\xa5value" if named else b"\x91") + value

    around = 2 if named else 1  # a map of one has two items, an array of one has one
    async with serving(Work(), log=CALM, **limits) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            sent = [nested(7), nested(8), many(100 - around), many(101 - around)]
            for id, payload in enumerate(sent, 1):
                peer.send(call(id, method, payload, serializer=serializer))
            replies = [await peer.reply(id) for id in (1, 2, 3, 4)]
            assert [reply.status for reply in replies] == [0, 46, 0, 46]
            assert "max_depth" in message(replies[1])
            assert "max_items" in message(replies[3])
            assert await peer.until_pong(1) == []


async def test_metadata_of_a_client_is_checked_by_the_client() -> None:
    async with serving(Work(), log=CALM) as server:
        async with fastrpc.connect(server.targets[0], max_metadata=100) as client:
            view = client.options(metadata={"k": b"x" * 96})
            assert await view.call("Work.echo", 5) == 5
            with pytest.raises(fastrpc.TooLarge):
                client.options(metadata={"k": b"x" * 97})
