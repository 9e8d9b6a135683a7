"""Codecs that are extras serve calls like the others, and their limits are the server's."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

import fastrpc
from fastrpc.codec.cbor import CborCodec
from fastrpc.codec.xml import XmlCodec

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])


@dataclass
class Point:
    x: int
    y: int = 0


class Plane:
    """Something to call."""

    async def move(self, point: Point, by: int = 1) -> Point:
        return Point(point.x + by, point.y + by)

    async def both(self, *points: Point, scale: int = 1) -> int:
        return sum(point.x * scale for point in points)

    async def fail(self) -> None:
        raise fastrpc.RpcError(7, "on purpose")

    async def unsendable(self) -> object:
        return object()


@contextlib.asynccontextmanager
async def connected(codec: str) -> AsyncIterator[fastrpc.Client]:
    async with fastrpc.Server(codecs=["cbor", XmlCodec()], max_depth=5, max_items=50) as made:
        made.register(Plane())
        await made.start("mem://extra-codecs")
        async with fastrpc.connect("mem://extra-codecs", codec=codec) as client:
            yield client


@pytest.mark.parametrize("codec", ["cbor", "xml"])
async def test_calls(codec: str) -> None:
    async with connected(codec) as client:
        plane = client.stub(Plane)
        assert await plane.move(Point(1)) == Point(2, 1)
        assert await plane.move(Point(1), by=5) == Point(6, 5)
        assert await plane.move(by=2, point=Point(0)) == Point(2, 2)
        assert await plane.both(Point(1), Point(2), scale=3) == 9
        assert await client.call("Plane.move", {"x": 1}) == {"x": 2, "y": 1}
        large = "a" * 100_000
        with pytest.raises(fastrpc.InvalidArgument, match="'point': expected Point, got str"):
            await client.call("Plane.move", large)


@pytest.mark.parametrize("codec", ["cbor", "xml"])
async def test_errors(codec: str) -> None:
    async with connected(codec) as client:
        with pytest.raises(fastrpc.InvalidArgument, match="'point', field 'x': expected int"):
            await client.call("Plane.move", {"x": "1"})
        with pytest.raises(fastrpc.InvalidArgument, match="argument 'point' is missing"):
            await client.call("Plane.move")
        with pytest.raises(fastrpc.RpcError, match="on purpose"):
            await client.call("Plane.fail")
        with pytest.raises(fastrpc.Internal, match="can.t be encoded"):
            await client.call("Plane.unsendable")
        with pytest.raises(fastrpc.CodecError, match="can't be sent"):
            await client.call("Plane.move", object())


async def test_the_servers_limits_hold_for_codecs_by_name() -> None:
    async with connected("cbor") as client:
        with pytest.raises(fastrpc.TooLarge, match="nested deeper than 5"):
            await client.call("Plane.move", [[[[[[]]]]]])
        with pytest.raises(fastrpc.TooLarge, match="more than 50 items"):
            await client.call("Plane.move", [0] * 50)


async def test_a_codec_that_the_server_does_not_have() -> None:
    async with connected("avro") as client:
        with pytest.raises(fastrpc.FastRPCError, match="avro|serializer 30"):
            await client.call("Plane.move", 5)


async def test_blocking_client() -> None:
    options = fastrpc.connect_sync("tcp://127.0.0.1:1", codec="xml", codecs=["cbor"])
    options.close()
    with pytest.raises(fastrpc.ConfigError, match="there is a codec named 'cbor' already"):
        fastrpc.connect("mem://extra-codecs", codec="cbor", codecs=["cbor", CborCodec()])
