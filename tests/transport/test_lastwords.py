"""The alert of a handshake that failed goes out before the loop closes the connection."""

import contextvars
import socket
import ssl
from collections.abc import Iterator

import pytest

from fastrpc.transport.lastwords import LastWords, ServerContext, last_words

ALERT = b"\x15\x03"  # TLS record of an alert


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        peer.settimeout(5)
        yield ours, peer


def fail(words: LastWords | None) -> None:
    """Begin a handshake with somebody who speaks no TLS."""
    last_words.set(words)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = ServerContext.by_default().wrap_bio(incoming, outgoing, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        end.do_handshake()
    incoming.write(b"\x16\x03\x01\x00\x04\x01\x00\x00\x00")  # a hello without anything in it
    with pytest.raises(ssl.SSLError):
        end.do_handshake()


def test_the_alert_is_sent_and_then_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    words = LastWords(ours)
    contextvars.copy_context().run(fail, words)
    assert peer.recv(100).startswith(ALERT)
    assert peer.recv(100) == b""
    assert words.sock is None


def test_words_are_said_once(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    words = LastWords(ours)
    words.say(b"")
    words.say(b"too late")
    ours.shutdown(socket.SHUT_WR)
    assert peer.recv(100) == b""


def test_who_is_gone_is_told_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, peer = pair
    peer.close()
    words = LastWords(ours)
    words.say(ALERT)
    assert words.sock is None


def test_a_handshake_that_nobody_noted_fails_as_everywhere() -> None:
    contextvars.copy_context().run(fail, None)


def test_is_as_strict_as_what_python_takes_for_safe() -> None:
    usual, ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ServerContext.by_default()
    assert ours.options == usual.options
    assert ours.verify_flags == usual.verify_flags
    assert ours.verify_mode == usual.verify_mode
