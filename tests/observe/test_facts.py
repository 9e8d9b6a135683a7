"""Facts are plain: they go through JSON and come back the same."""

import asyncio
from dataclasses import FrozenInstanceError

import msgspec
import pytest

import fastrpc
from fastrpc.observe import Facts, snapshot
from tests.server.serving import serving


class Plain:
    async def wait(self) -> None:
        await asyncio.sleep(30)

    def fail(self) -> None:
        raise ValueError("no")


@pytest.mark.asyncio
async def test_a_snapshot_goes_through_json_and_nobody_can_change_it() -> None:
    async with serving(Plain()) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            waits = asyncio.ensure_future(client.call("Plain.wait"))
            with pytest.raises(fastrpc.RemoteError):
                await client.call("Plain.fail")
            facts = snapshot(server)
            waits.cancel()
    text = msgspec.json.encode(facts)
    assert msgspec.json.encode(msgspec.json.decode(text, type=Facts)) == text
    assert (len(facts.calls), len(facts.connections), len(facts.methods)) == (1, 1, 2)
    with pytest.raises(FrozenInstanceError):
        facts.cut = {}  # type: ignore[misc]
