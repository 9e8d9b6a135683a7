"""Waiting for one descriptor, with what the system has."""

import select
import socket
from collections.abc import Iterator

import pytest

from fastrpc.transport.poll import watch


@pytest.fixture(params=["poll", "select"])
def pair(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[socket.socket, socket.socket]]:
    if request.param == "select":
        monkeypatch.delattr(select, "poll")
    ours, peer = socket.socketpair()
    with ours, peer:
        yield ours, peer


def test_what_came_can_be_read(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    readable = watch(ours, read=True)
    assert readable(0) is False
    peer.send(b"x")
    assert readable(5) is True
    ours.recv(1)
    assert readable(0) is False


def test_the_end_can_be_read(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    peer.close()
    assert watch(ours, read=True)(5) is True


def test_what_has_room_can_be_written(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    ours.setblocking(False)
    writable = watch(ours, write=True)
    assert writable(5) is True
    with pytest.raises(BlockingIOError):
        while True:
            ours.send(b"x" * 65_536)
    assert writable(0) is False
    assert watch(ours, read=True, write=True)(0) is False
    peer.send(b"x")
    assert watch(ours, read=True, write=True)(5) is True
