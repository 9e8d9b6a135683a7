"""HELLO from frames, and strangers from their first bytes."""

import json
from typing import Any

import pytest

from fastrpc.errors import (
    ConnectFailed,
    FrameError,
    ProtocolError,
    Unauthenticated,
    Unsupported,
)
from fastrpc.frame import Frame, FrameDecoder
from fastrpc.protocol import Nonces, Option, State, decode_option, encode_option, encode_refusal
from fastrpc.session import opening
from fastrpc.wire import Kind, Serializer

JSON = int(Serializer.JSON)


def hello(**fields: Any) -> Frame:
    fields.setdefault("serializer", JSON)
    fields.setdefault("payload", encode_option(Option(), False))
    return Frame(Kind.HELLO, fields.pop("id", 0), **fields)


def frame_of(data: bytes) -> Frame:
    (frame,) = FrameDecoder().feed(data)
    return frame


def test_greeting_and_answer_are_made_for_each_other() -> None:
    offer = Option(max_body=1000, max_calls=5, agent="server")
    first = frame_of(opening.greeting(Option(agent="client", max_body=2000), "once"))
    opening.check(first, False, 16_384)
    agreed, asked, words = opening.accept(first, offer, Nonces())
    assert (asked.agent, asked.max_body, agreed.max_body) == ("client", 2000, 1000)
    answer = frame_of(words)
    opening.check(answer, True, 16_384)
    option = opening.welcome(answer, Option(agent="client"), "once", "mem://x")
    assert isinstance(option, Option)
    assert (option.agent, option.max_calls, option.nonce) == ("server", 5, "once")


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (hello(reply=True), "wrong way"),
        (hello(oversize=20_000), "over 16384"),
        (hello(payload=bytes(16_385)), "over 16384"),
        (hello(serializer=1), "plain JSON"),
        (hello(bits=0x10), "plain JSON"),
        (hello(id=1), "plain JSON"),
    ],
)
def test_what_can_not_be_a_hello(frame: Frame, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        opening.check(frame, False, 16_384)


def test_nothing_in_common_is_a_refusal_and_a_broken_rule_is_not() -> None:
    future = hello(payload=encode_option(Option(versions=(9,)), False))
    with pytest.raises(ProtocolError) as nothing:
        opening.accept(future, Option(), Nonces())
    assert nothing.value.status == 47
    with pytest.raises(ProtocolError) as broken:
        opening.accept(hello(payload=b"[]"), Option(), Nonces())
    assert broken.value.status == 70


@pytest.mark.parametrize(
    ("status", "kind"), [(43, Unauthenticated), (47, Unsupported), (53, ConnectFailed)]
)
def test_a_refusal_becomes_an_error_that_says_why(status: int, kind: type[Exception]) -> None:
    frame = frame_of(opening.refuse(status, "because"))
    assert json.loads(frame.payload) == json.loads(encode_refusal("because"))
    error = opening.welcome(frame, Option(), "", "tcp://x:1")
    assert type(error) is kind
    assert "tcp://x:1 refused the connection: because" in str(error)


def test_an_answer_for_somebody_else_is_refused() -> None:
    _, _, words = opening.accept(frame_of(opening.greeting(Option(), "mine")), Option(), Nonces())
    with pytest.raises(ProtocolError, match="nonce"):
        opening.welcome(frame_of(words), Option(), "other", "tcp://x:1")
    assert decode_option(frame_of(words).payload, True).nonce == "mine"


def magic(seen: bytes) -> FrameError:
    return FrameError("not a frame", "magic", seen)


@pytest.mark.parametrize("seen", [b"GET / HTTP/1.1\r\n", b"GE", b"PO", b"CONNECT a:1", b"HE"])
def test_http_gets_an_answer_in_http(seen: bytes) -> None:
    exc = magic(seen)
    verdict = opening.stranger(exc, False, State.HELLO, "tcp://x:1")
    assert verdict is not None
    assert verdict[0] is exc
    assert verdict[1].startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize(
    ("exc", "state"),
    [
        (magic(b"\x16\x03\x01"), State.HELLO),
        (magic(b"GET / HTTP/1.1"), State.OPEN),
        (FrameError("too long", "body size", b"GET"), State.HELLO),
        (ProtocolError("no"), State.HELLO),
        (ValueError("no"), State.HELLO),
    ],
)
def test_others_do_not(exc: Exception, state: State) -> None:
    assert opening.stranger(exc, False, state, "tcp://x:1") is None


def test_a_client_shows_what_the_stranger_said() -> None:
    verdict = opening.stranger(
        magic(b"HTTP/1.1 400 Bad Request\r\nDate: now\r\n"), True, State.HELLO, "tcp://x:80"
    )
    assert verdict is not None
    assert str(verdict[0]) == "tcp://x:80 is no fastrpc server; it says 'HTTP/1.1 400 Bad Request'"
    assert verdict[1] == b""


@pytest.mark.parametrize(
    ("exc", "told"),
    [
        (
            FrameError("not a frame: it starts with b'secret'", "magic", b"secret"),
            (70, "not a frame: the magic number is another"),
        ),
        (FrameError("version 2 is not 1", "version", b"\xfa\x57"), (70, "version 2 is not 1")),
        (ProtocolError("too many pings", 71), (71, "too many pings")),
        (ValueError("ours, and nobody's business"), (50, "internal error")),
    ],
)
def test_the_peer_is_told_nothing_that_it_sent(exc: Exception, told: tuple[int, str]) -> None:
    assert opening.words(exc) == told
