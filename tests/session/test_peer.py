"""What a server can do with its clients, and they with what it sends."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import fastrpc
from tests.server.serving import serving, until

pytestmark = pytest.mark.asyncio


class Room:
    def __init__(self) -> None:
        self.peers: list[Any] = []

    async def enter(self, peer: fastrpc.Peer = fastrpc.GIVEN) -> str:
        self.peers.append(peer)
        return peer.address

    async def echo(self, text: str, peer: fastrpc.Peer = fastrpc.GIVEN) -> str:
        return str(await peer.call("Screen.echo", text))


class Screen:
    def __init__(self) -> None:
        self.shown: list[str] = []

    def show(self, text: str) -> None:
        self.shown.append(text)

    async def echo(self, text: str) -> str:
        await asyncio.sleep(0)
        return text

    async def letters(self, text: str) -> AsyncIterator[str]:
        for letter in text:
            yield letter

    async def stay(self) -> None:
        await asyncio.Event().wait()

    def _hidden(self) -> None: ...


async def entered(server: fastrpc.Server, screen: Screen | None, **options: Any) -> fastrpc.Client:
    client = fastrpc.connect(server.targets[0], **options)
    if screen is not None:
        client.register(screen)
    await client.call("Room.enter")
    return client


async def test_a_server_calls_its_client_in_every_way() -> None:
    room, screen = Room(), Screen()
    async with serving(room) as server:
        client = await entered(server, screen)
        peer = room.peers[0]
        assert server.peers == [peer]
        assert await peer.call("Screen.echo", "a") == "a"
        assert await peer.stub(Screen).echo("b") == "b"
        assert [letter async for letter in peer.stub(Screen).letters("abc")] == ["a", "b", "c"]
        peer.notify("Screen.show", "c")
        assert await client.call("Room.echo", "d") == "d"  # behind the notice
        assert screen.shown == ["c"]
        await client.call("Room.enter")
        assert room.peers[1] is peer
        await client.aclose()


async def test_only_what_was_registered_before_can_be_called() -> None:
    room = Room()
    async with serving(room) as server:
        client = await entered(server, Screen())
        with pytest.raises(fastrpc.ConfigError, match="before the client connects"):
            client.register(Screen(), name="Late")
        for name in ("Screen._hidden", "Late.show", "Screen.__init__", "Room.enter"):
            with pytest.raises(fastrpc.MethodNotFound):
                await room.peers[0].call(name)
        bare = await entered(server, None)
        with pytest.raises(fastrpc.MethodNotFound):
            await room.peers[1].call("Screen.echo", "a")
        await client.aclose()
        await bare.aclose()


async def test_the_limits_of_a_client_hold_for_its_server() -> None:
    room = Room()
    async with serving(room) as server:
        client = await entered(server, Screen(), max_body=500, max_items=20, max_calls=2)
        peer = room.peers[0]
        with pytest.raises(fastrpc.TooLarge, match="max_body of 500"):
            await peer.call("Screen.echo", "x" * 500)
        with pytest.raises(fastrpc.TooLarge, match="max_items"):
            await peer.call("Screen.echo", ["x" * 10] * 20)
        waiting = [asyncio.ensure_future(peer.call("Screen.stay")) for _ in range(2)]
        with pytest.raises(fastrpc.DeadlineExceeded) as caught:
            await peer.options(timeout=0.01).call("Screen.echo", "a")
        assert caught.value.ran == "no"  # it waited for a place
        for call in waiting:
            call.cancel()
        await asyncio.wait(waiting)
        await client.aclose()


async def test_nobody_can_send_a_peer() -> None:
    async with serving(Room()) as server:
        client = await entered(server, None)
        with pytest.raises(fastrpc.InvalidArgument, match="unexpected argument 'peer'"):
            await client.call("Room.enter", peer="me")
        with pytest.raises(fastrpc.InvalidArgument, match="takes no positional arguments"):
            await client.call("Room.enter", "me")
        await client.aclose()


@pytest.mark.parametrize("size", [10, 1000])
async def test_a_client_that_does_not_read_is_sent_no_more_notices(size: int) -> None:
    room, screen = Room(), Screen()
    server = fastrpc.Server()
    server.register(room)
    await server.start("mem://peer")
    client = await entered(server, screen)
    peer, sent = room.peers[0], 0
    with pytest.raises(fastrpc.Unavailable, match="reads too slowly") as caught:
        while True:
            peer.notify("Screen.show", "x" * size)
            sent += 1
    assert caught.value.ran == "no"
    assert sent * size <= 128 * 1024
    assert await peer.call("Screen.echo", "behind") == "behind"  # a call waits instead
    assert len(screen.shown) == sent
    await client.aclose()
    await until(lambda: not peer.is_open)
    for way in (peer.call, peer.notify):
        with pytest.raises(fastrpc.ConnectionLost) as gone:
            result = way("Screen.echo", "a")
            assert result is not None
            await result
        assert gone.value.ran == "no"
    assert server.peers == []
    await server.aclose()
