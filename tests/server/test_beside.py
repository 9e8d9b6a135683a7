"""What goes beside one payload never goes with another, whoever asked for which."""

import asyncio
from typing import Any

import numpy as np
import pytest

import fastrpc
from tests.server.serving import serving

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("both_twins")]

LARGE = 9000  # numbers: more than what goes inline


class Gives:
    def numbers(self, first: float) -> np.ndarray[Any, Any]:
        return np.full(LARGE, first)

    async def same(self, given: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return given

    async def fail(self) -> None:
        raise fastrpc.RpcError(7, "with numbers", {"numbers": np.full(LARGE, 3.0)})


def blocking(target: str, codec: str) -> list[float]:
    with fastrpc.connect_sync(target, codec=codec, pickle=codec == "pickle") as client:
        return [float(client.call("Gives.numbers", first)[0]) for first in (1.0, 2.0)]


@pytest.mark.parametrize("codec", ["msgpack", "pickle"])
async def test_who_takes_nothing_beside_a_payload_has_it_inside(codec: str) -> None:
    async with serving(Gives(), pickle=True) as server:
        target = server.targets[0]
        assert await asyncio.to_thread(blocking, target, codec) == [1.0, 2.0]
        async with fastrpc.connect(target, codec=codec, pickle=True) as client:
            for first in (5.0, 6.0):
                assert np.array_equal(await client.call("Gives.numbers", first), [first] * LARGE)
        assert server._side is not None
        assert server._side.codecs.beside == []


@pytest.mark.parametrize("connections", [1, 2, 3])
async def test_every_connection_of_a_client_sends_its_own(connections: int) -> None:
    async with serving(Gives()) as server:
        async with fastrpc.connect(server.targets[0], connections=connections) as client:
            given = [np.full(LARGE, float(number)) for number in range(8)]
            got = await asyncio.gather(*[client.call("Gives.same", each) for each in given])
            assert all(np.array_equal(*pair) for pair in zip(given, got, strict=True))


@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_an_error_has_its_data_inside_and_leaves_nothing_behind(codec: str) -> None:
    async with serving(Gives()) as server:
        async with fastrpc.connect(server.targets[0], codec=codec) as client:
            for _ in range(2):
                with pytest.raises(fastrpc.RpcError, match="with numbers") as caught:
                    await client.call("Gives.fail")
                assert caught.value.data["numbers"][0] == 3.0
                assert list(await client.call("Gives.numbers", 4.0)) == [4.0] * LARGE
