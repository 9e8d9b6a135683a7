"""Methods of one message are called over the codecs of schemas, through stubs."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

import fastrpc
from tests.codec.protos import load
from tests.codec.test_thrift import people as thrifts

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])
protos: Any = load("people")


@dataclass
class User:
    id: int
    name: str = ""


class Mixed:
    """A method for each codec, and one for none of them."""

    async def proto(self, point: protos.Point) -> protos.Point:
        return protos.Point(x=point.x + 1)

    async def thrift(self, point: thrifts.Point) -> thrifts.Point:
        return thrifts.Point(x=point.x + 1)

    def avro(self, user: User) -> User:
        return User(user.id + 1, user.name)

    async def arrow(self, table: pa.Table) -> pa.Table:
        return table.slice(1)

    async def nothing(self) -> None:
        return None

    async def add(self, a: int, b: int) -> int:
        return a + b


VALUES: dict[str, tuple[str, Any, Any]] = {
    "protobuf": ("proto", protos.Point(x=1), protos.Point(x=2)),
    "thrift": ("thrift", thrifts.Point(x=1), thrifts.Point(x=2)),
    "avro": ("avro", User(1, "ada"), User(2, "ada")),
    "arrow": ("arrow", pa.table({"a": [1, 2]}), pa.table({"a": [2]})),
}


@contextlib.asynccontextmanager
async def connected(codec: str) -> AsyncIterator[fastrpc.Client]:
    async with fastrpc.Server(codecs=list(VALUES)) as server:
        server.register(Mixed())
        await server.start("mem://messages")
        async with fastrpc.connect("mem://messages", codec=codec) as client:
            yield client


@pytest.mark.parametrize("codec", VALUES)
async def test_a_message_there_and_one_back(codec: str) -> None:
    method, value, answer = VALUES[codec]
    async with connected(codec) as client:
        mixed: Any = client.stub(Mixed)
        assert await getattr(mixed, method)(value) == answer
        assert await mixed.nothing() is None
        with pytest.raises(fastrpc.CodecError, match="call it through a stub"):
            await client.call(f"Mixed.{method}", value)
        with pytest.raises((fastrpc.ConfigError, fastrpc.CodecError), match="Mixed.add"):
            await mixed.add(1, 2)
        with pytest.raises(fastrpc.FastRPCError, match=r"Mixed\.add: .* carries one argument"):
            await client.call("Mixed.add", value)


@pytest.mark.parametrize("codec", ["thrift", "avro", "arrow"])
async def test_no_message_for_a_method_that_takes_one(codec: str) -> None:
    async with connected(codec) as client:
        mixed: Any = client.stub(Mixed)
        with pytest.raises(fastrpc.InvalidArgument, match=f"Mixed.{codec}: argument: "):
            await getattr(mixed, codec)()


async def test_plain_methods_are_called_over_msgpack_beside_them() -> None:
    async with connected("msgpack") as client:
        assert await client.call("Mixed.add", 1, 2) == 3
        assert await client.call("Mixed.avro", {"id": 1}) == {"id": 2, "name": ""}
        with pytest.raises(fastrpc.InvalidArgument, match="argument 'point'"):
            await client.call("Mixed.proto", {"x": 1})
