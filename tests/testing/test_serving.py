"""One line serves an object in memory, with a client."""

import pytest

import fastrpc
from fastrpc.testing import Faults, serving

pytestmark = pytest.mark.asyncio


class Arith:
    def add(self, a: int, b: int) -> int:
        return a + b


async def test_objects_are_served_for_a_block() -> None:
    async with serving(Arith()) as client:
        assert await client.stub(Arith).add(1, 2) == 3
        async with serving(Arith(), timeout=1.0) as other:
            assert await other.call("Arith.add", 1, 1) == 2
            target = other.target
    with pytest.raises(fastrpc.ConnectFailed):
        await fastrpc.connect(target).call("Arith.add", 1, 1)


async def test_faults_and_a_server_of_ones_own() -> None:
    faults = Faults()
    faults.lose_request("Arith.add", nth=1)
    server = fastrpc.Server(max_running=7)
    async with serving(Arith(), faults=faults, server=server, timeout=0.05) as client:
        with pytest.raises(fastrpc.DeadlineExceeded):
            await client.call("Arith.add", 1, 2)
        assert await client.call("Arith.add", 1, 2) == 3
    assert server.stats().state.value == "closed"
