"""Who writes too much is paused, on every event loop and every Python."""

import asyncio
from typing import Any

import pytest

from fastrpc.session import flow
from fastrpc.session.flow import WRITE_HIGH, writelines_of
from fastrpc.transport import dial, listen
from tests.session.rig import Paper


class Paused(asyncio.Protocol):
    def __init__(self) -> None:
        self.pauses = 0

    def pause_writing(self) -> None:
        self.pauses += 1


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["tcp", "unix", "mem"])
async def test_many_pieces_pause_the_writer(scheme: str, tmp_path: Any) -> None:
    target = {"tcp": "tcp://127.0.0.1:0", "unix": f"unix://{tmp_path}/s", "mem": "mem://flow"}
    silent: list[asyncio.BaseTransport] = []

    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            silent.append(transport)
            # Not at once: uvloop begins to read after this, whatever is asked for here.
            asyncio.get_running_loop().call_soon(transport.pause_reading)  # type: ignore[attr-defined]

    listener = await listen(target[scheme], Deaf)
    transport, protocol = await dial(listener.targets[0], Paused, timeout=5)
    transport.set_write_buffer_limits(high=WRITE_HIGH)
    write = writelines_of(transport)
    while not protocol.pauses:
        write([bytes(40_000)] * 10)
        await asyncio.sleep(0)
    assert transport.get_write_buffer_size() < 20_000_000
    transport.abort()
    for each in silent:
        each.abort()  # type: ignore[attr-defined]
    listener.close()
    await listener.wait_closed()


def test_where_the_loop_remembers_its_own_method_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "_FORGETFUL", False)
    paper = Paper()
    assert writelines_of(paper) == paper.writelines


def test_where_it_forgets_it_is_made_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "_FORGETFUL", True)
    paper = Paper()
    writelines_of(paper)([b"a", b"b"])
    assert (paper.written, paper.high) == (b"ab", WRITE_HIGH)
