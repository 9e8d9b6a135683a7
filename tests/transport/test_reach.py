"""Connecting a socket: each address has its share of the time, and no socket is left."""

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastrpc.transport import reach as module
from fastrpc.transport.address import Target, parse_target
from fastrpc.transport.reach import Unreached, reach, reach_blocking, wake
from fastrpc.transport.resolve import Address

BOTH = pytest.mark.parametrize("blocking", [False, True])


async def connect(target: Target, patience: float, blocking: bool) -> socket.socket:
    if blocking:
        return await asyncio.to_thread(reach_blocking, target, time.monotonic() + patience)
    loop = asyncio.get_running_loop()
    return await reach(loop, target, loop.time() + patience)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: Address) -> None:
    """Let every name have *addresses*."""

    async def resolve(host: str, port: int) -> list[Address]:
        return list(addresses)

    monkeypatch.setattr(module, "resolve", resolve)
    monkeypatch.setattr(module, "resolve_blocking", lambda host, port: list(addresses))


def address_of(sock: socket.socket) -> Address:
    return Address(socket.AF_INET, sock.getsockname())


def closed_port() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return address_of(sock)


@BOTH
@pytest.mark.asyncio
async def test_what_refuses_is_passed_over(
    blocking: bool, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, closed_port(), address_of(listening))
    with await connect(parse_target("tcp://somewhere:1"), 10, blocking) as sock:
        assert sock.getpeername() == listening.getsockname()
        assert sock.getblocking() is blocking
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@BOTH
@pytest.mark.asyncio
async def test_each_address_is_named_in_the_failure(
    blocking: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = closed_port(), closed_port()
    resolving(monkeypatch, first, second)
    with pytest.raises(Unreached) as caught:
        await connect(parse_target("tcp://somewhere:1"), 10, blocking)
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)


@BOTH
@pytest.mark.asyncio
async def test_a_name_without_an_address(blocking: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch)
    with pytest.raises(Unreached, match="the name has no address"):
        await connect(parse_target("tcp://somewhere:1"), 10, blocking)


@pytest.mark.asyncio
async def test_a_name_that_is_looked_up_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, port: int) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(module, "resolve", resolve)
    with pytest.raises(Unreached, match="name lookup did not end"):
        await connect(parse_target("tcp://somewhere:1"), 0.01, False)


@BOTH
@pytest.mark.asyncio
async def test_no_time_is_no_answer(
    blocking: bool, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, address_of(listening))
    with pytest.raises(Unreached, match="no answer in"):
        await connect(parse_target("tcp://somewhere:1"), -1, blocking)


@BOTH
@pytest.mark.asyncio
async def test_a_socket_file_with_a_full_line_is_waited_for(blocking: bool, tmp_path: Path) -> None:
    path = f"{tmp_path}/full"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(0)
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(path)
            target = parse_target(f"unix://{path}")
            with pytest.raises(Unreached, match="no answer in"):
                await connect(target, 0.02, blocking)
            waiting = asyncio.ensure_future(connect(target, 10, blocking))
            await asyncio.sleep(0)
            with server.accept()[0], await waiting as second:
                assert second.getpeername() == path


@BOTH
@pytest.mark.asyncio
async def test_nobody_talks_to_himself(
    blocking: bool, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, address_of(listening))
    monkeypatch.setattr(socket.socket, "getpeername", socket.socket.getsockname)
    with pytest.raises(Unreached, match="refused"):
        await connect(parse_target("tcp://somewhere:1"), 10, blocking)


@pytest.mark.asyncio
async def test_a_wait_that_has_ended_can_be_woken() -> None:
    ready = asyncio.get_running_loop().create_future()
    wake(ready)
    wake(ready)
    assert ready.done()
