"""Sockets that are bound for children; how they are bound otherwise stands in test_listen."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from fastrpc.errors import ConfigError, TransportError
from fastrpc.transport import bind_shared, listen
from fastrpc.transport.listen import Listener
from tests.transport.ends import Echo, turn_until


class Turns:
    """Says whose turn it is, by script."""

    def __init__(self, *answers: bool) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []
        self.taken = 0

    def is_mine(self, on_the_way: int) -> bool:
        self.asked.append(on_the_way)
        return self.answers.pop(0) if self.answers else True

    def took(self) -> None:
        self.taken += 1


async def close(listener: Listener) -> None:
    listener.close()
    await listener.wait_closed()


def test_memory_can_not_be_shared() -> None:
    with pytest.raises(ConfigError, match="mem://x"):
        bind_shared("mem://x")


def test_an_address_that_can_not_be_had() -> None:
    with pytest.raises(TransportError, match=r"192\.0\.2\.1"):
        bind_shared("tcp://192.0.2.1:9")
    with pytest.raises(TransportError, match="name lookup failed"):
        bind_shared("tcp://name.invalid:9")


@pytest.mark.parametrize("target", ["tcp://127.0.0.1:0", "unix://{}/sock"])
def test_a_child_has_what_was_bound_to_be_shared(target: str, tmp_path: Path) -> None:
    bound = bind_shared(target.format(tmp_path))
    pid = os.fork()
    if not pid:
        is_there = bound.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        os._exit(0 if is_there else 1)
    assert os.waitpid(pid, 0)[1] == 0
    bound.close()
    bound.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.asyncio
async def test_who_listens_on_it_closes_what_is_its_own_only(tmp_path: Path) -> None:
    bound = bind_shared(f"unix://{tmp_path}/sock")
    other = bound.sockets[0].dup()
    listener = await listen(f"unix://{tmp_path}/sock", Echo, bound=bound)
    await close(listener)
    assert (tmp_path / "sock").exists()
    assert other.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    other.close()
    bound.file.remove()


@pytest.mark.asyncio
async def test_who_is_not_in_turn_waits_a_moment_and_asks_again() -> None:
    bound = bind_shared("tcp://127.0.0.1:0")
    turns = Turns(False, False, True)
    listener = await listen("tcp://127.0.0.1:0", Echo, bound=bound, turns=turns)
    assert listener.targets == [f"tcp://127.0.0.1:{bound.sockets[0].getsockname()[1]}"]
    with socket.create_connection(bound.sockets[0].getsockname()) as sock:
        await turn_until(lambda: turns.taken == 1)
        sock.sendall(b"x")
        sock.settimeout(5)
        assert await asyncio.to_thread(sock.recv, 1) == b"x"
    assert turns.asked[:3] == [0, 0, 0]
    await close(listener)


@pytest.mark.asyncio
async def test_who_stops_accepting_lets_those_come_in_who_were_accepted() -> None:
    bound = bind_shared("tcp://127.0.0.1:0")
    other = bound.sockets[0].dup()
    listener = await listen("tcp://127.0.0.1:0", Echo, bound=bound)
    address = other.getsockname()
    with socket.create_connection(address) as first:
        first.sendall(b"x")
        first.settimeout(5)
        assert await asyncio.to_thread(first.recv, 1) == b"x"
        listener.stop_accepting()
        with socket.create_connection(address) as second:  # for whoever else accepts there
            taken, _ = await asyncio.to_thread(_accept, other)
            taken.sendall(b"mine")
            second.settimeout(5)
            assert second.recv(4) == b"mine"
            taken.close()
        first.sendall(b"y")
        assert await asyncio.to_thread(first.recv, 1) == b"y"
    assert listener.arriving == 0
    await close(listener)
    other.close()


def _accept(sock: socket.socket) -> tuple[socket.socket, object]:
    sock.settimeout(5)
    return sock.accept()
