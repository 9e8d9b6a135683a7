"""Check the TLS socket that threads share: partial sends, late readers, torn reads."""

import contextlib
import errno
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fastrpc.transport import TlsSocket
from fastrpc.transport.poll import watch
from fastrpc.transport.tlssocket import until
from tests.transport import certs

DONT_WAIT = socket.MSG_DONTWAIT


@contextlib.contextmanager
def pair(newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Iterator[tuple[TlsSocket, Any]]:
    """Give a TLS socket of ours and Python's own at the other end."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    context = certs.server_tls().context(0.0)
    client = certs.client_tls().context(0.0)
    client.maximum_version = newest
    box: list[Any] = []

    def serve() -> None:
        box.append(context.wrap_socket(theirs, server_side=True))

    thread = threading.Thread(target=serve)
    thread.start()
    tls = TlsSocket(ours, client, "localhost")
    tls.shake_hands(time.monotonic() + 5)
    thread.join(5)
    tls.settimeout(None)
    box[0].settimeout(5.0)
    try:
        yield tls, box[0]
    finally:
        tls.close()
        box[0].close()


def read(tls: TlsSocket, size: int) -> bytes:
    buffer = bytearray(size)
    count = tls.recv_into(buffer)
    tls.taken(count)
    return bytes(buffer[:count])


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_bytes_go_both_ways(newest: ssl.TLSVersion) -> None:
    with pair(newest) as (tls, peer):
        assert tls.send(b"question", DONT_WAIT) == 8
        assert peer.recv(100) == b"question"
        peer.sendall(b"answer")
        assert read(tls, 3) == b"ans"
        assert tls.readable(0.0), "decrypted, and not in the kernel any more"
        assert read(tls, 100) == b"wer"
        assert not tls.readable(0.0)


def test_what_was_not_taken_comes_again() -> None:
    with pair() as (tls, peer):
        peer.sendall(b"once")
        buffer = bytearray(10)
        assert [tls.recv_into(buffer) for _ in range(3)] == [4, 4, 4]
        delivered: list[int] = []
        tls.noting(delivered.append)(4)
        assert delivered == [4]
        peer.sendall(b"more")
        assert read(tls, 10) == b"more"


def test_tickets_after_the_handshake_are_no_bytes() -> None:
    """TLS 1.3: the socket is readable, and there is nothing to read."""
    with pair() as (tls, _):
        assert watch(tls, read=True)(5.0)
        started = time.monotonic()
        assert not tls.readable(0.01)
        assert time.monotonic() - started < 4.0


def test_a_peer_that_reads_slowly_gets_every_byte_once() -> None:
    data = bytes(range(256)) * 4096  # 1 MiB
    with pair() as (tls, peer):
        got = bytearray()
        rest, refused = memoryview(data), 0
        while rest:
            try:
                count = tls.send(rest, DONT_WAIT)
            except BlockingIOError as error:
                assert error.errno == errno.EAGAIN
                refused += 1
                got += peer.recv(50_000)
                continue
            assert count > 0
            rest = rest[count:]
        peer.settimeout(5.0)
        while len(got) < len(data):
            got += peer.recv(65536)
        assert refused > 3, "there was something to wait for"
        assert got == data


def test_progress_is_counted_while_a_piece_is_under_way() -> None:
    """Else a slow peer would be taken for a dead one: see `write_stall`."""
    with pair() as (tls, peer):
        counts: list[int] = []
        rest = memoryview(bytes(1_000_000))
        for _ in range(50):
            with contextlib.suppress(BlockingIOError):
                counts.append(tls.send(rest, DONT_WAIT))
                rest = rest[counts[-1] :]
            peer.recv(1000)
        assert any(0 < count < 65536 for count in counts)


def test_threads_send_while_one_reads() -> None:
    with pair() as (tls, peer):
        heard: list[bytes] = []
        reader = threading.Thread(target=lambda: heard.append(read(tls, 100)))
        reader.start()
        for number in range(10):
            assert tls.send(b"%d" % number, DONT_WAIT) == 1
        got = b""
        while len(got) < 10:
            got += peer.recv(100)
        assert got == b"0123456789"
        peer.sendall(b"woken")
        reader.join(5)
        assert heard == [b"woken"]


@pytest.mark.parametrize("politely", [True, False])
def test_the_end_is_an_end(politely: bool) -> None:
    with pair() as (tls, peer):
        if politely:
            with contextlib.suppress(TimeoutError, ssl.SSLError):
                peer.settimeout(0.01)
                peer.unwrap()
        else:
            peer.shutdown(socket.SHUT_RDWR)
        assert tls.readable(5.0)
        assert read(tls, 10) == b""
        assert read(tls, 10) == b"", "and stays one"


def test_shutting_down_says_so_and_wakes_the_reader() -> None:
    with pair() as (tls, peer):
        heard: list[bytes] = []
        reader = threading.Thread(target=lambda: heard.append(read(tls, 100)))
        reader.start()
        tls.shutdown(socket.SHUT_RDWR)
        reader.join(5)
        assert heard == [b""]
        assert peer.recv(10) == b"", "an end, not a cut: that would raise"


def test_garbage_is_an_error_for_who_reads() -> None:
    with pair() as (tls, peer):
        raw = socket.socket(fileno=peer.detach())
        raw.sendall(b"\x17\x03\x03\x00\x10" + bytes(16))
        assert tls.readable(5.0), "there is an error to be had"
        for _ in range(2):
            with pytest.raises(OSError, match="TLS: ") as raised:
                tls.recv_into(bytearray(10))
            assert raised.value.errno == errno.EPROTO
        raw.close()


def test_interrupted_in_the_midst_of_decrypting_it_has_ended() -> None:
    class Interrupts:
        def __init__(self, end: Any) -> None:
            self._end = end

        def read(self, size: int) -> bytes:
            self._end.read(size)
            raise KeyboardInterrupt

    with pair() as (tls, peer):
        peer.sendall(b"lost")
        tls._end = Interrupts(tls._end)  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            while True:
                tls.recv_into(bytearray(10))
        with pytest.raises(OSError, match="interrupted while reading") as raised:
            tls.recv_into(bytearray(10))
        assert raised.value.errno == errno.EIO


def test_interrupted_while_waiting_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    with pair() as (tls, peer):
        real, faults = tls._sock, [KeyboardInterrupt()]

        class Interrupted:
            def recv(self, size: int) -> bytes:
                if faults:
                    raise faults.pop()
                return real.recv(size)

        monkeypatch.setattr(tls, "_sock", Interrupted())
        peer.sendall(b"kept")
        with pytest.raises(KeyboardInterrupt):
            read(tls, 10)
        assert read(tls, 10) == b"kept"
        monkeypatch.setattr(tls, "_sock", real)


def test_time_that_is_up() -> None:
    with pytest.raises(TimeoutError):
        until(time.monotonic() - 1)
    assert 0 < until(time.monotonic() + 5) <= 5


def test_waiting_for_a_descriptor() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not watch(ours, read=True)(0.0)
        assert watch(ours, write=True)(0.0)
        theirs.send(b"x")
        assert watch(ours, read=True)(5.0)
