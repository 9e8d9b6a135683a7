"""What a first byte says, which doors there are, and what a closed one answers."""

import json

import msgpack
import pytest

import fastrpc
from fastrpc.frame import FrameDecoder
from fastrpc.server.doors import (
    BY_FIRST_BYTE,
    DOORS,
    PRIVATE,
    TONGUES,
    check_doors,
    usual_doors,
)
from fastrpc.transport import parse_target
from fastrpc.wire import Kind, StatusCode

CLOSED = {tongue.name: tongue.closed for tongue in TONGUES}


def test_no_two_tongues_begin_alike() -> None:
    assert len(BY_FIRST_BYTE) == sum(len(tongue.first) for tongue in TONGUES)


def test_every_door_is_spoken_at() -> None:
    assert frozenset().union(*(tongue.doors for tongue in TONGUES)) == set(DOORS)


@pytest.mark.parametrize(
    ("target", "has", "lacks"),
    [
        ("tcp://127.0.0.1:1", set(DOORS), set()),
        ("unix:///x", set(DOORS), set()),
        ("tcp://0.0.0.0:1", {"fastrpc", "http", "jsonrpc"}, {"metrics", "debug"}),
        ("tls://10.1.2.3:1", {"fastrpc", "websocket"}, {"metrics", "debug"}),
        ("ws://localhost:1", {"websocket", "jsonrpc"}, {"fastrpc", "http", "debug"}),
        ("wss://10.1.2.3:1", {"websocket", "jsonrpc"}, {"fastrpc", "http", "msgpackrpc"}),
        ("http://localhost:1", {"http", "upgrade", "debug"}, {"fastrpc", "msgpackrpc"}),
        ("jsonrpc://localhost:1", {"jsonrpc"}, {"fastrpc", "http"}),
    ],
)
def test_usual_doors(target: str, has: set[str], lacks: set[str]) -> None:
    parsed = parse_target(target)
    doors = usual_doors(parsed.scheme, is_private=parsed.is_private)
    assert has <= doors
    assert not lacks & doors


@pytest.mark.parametrize(
    ("doors", "says"),
    [(("ftp",), "'ftp'"), ((), "none"), ("http", "several names"), (("http", 3), "got 3")],
)
def test_doors_that_are_none(doors: object, says: str) -> None:
    with pytest.raises(fastrpc.ConfigError, match=says):
        check_doors(doors)  # type: ignore[arg-type]
    with pytest.raises(fastrpc.ConfigError, match=says):
        fastrpc.Server(doors=doors)  # type: ignore[arg-type]


def test_doors_that_are_some() -> None:
    assert check_doors(None) is None, "each listener has its own"
    assert check_doors(name for name in ("http", "health", "http")) == {"http", "health"}


def test_private_doors_are_doors() -> None:
    assert set(DOORS) > PRIVATE


def test_the_binary_door_refuses_in_a_frame() -> None:
    (frame,) = FrameDecoder(max_body=1000).feed(CLOSED["fastrpc"](b"\xfa"))
    assert (frame.kind, frame.reply, frame.status) == (Kind.HELLO, True, StatusCode.UNSUPPORTED)
    assert b"does not speak the fastrpc binary protocol" in frame.payload


def test_other_doors_refuse_in_their_own_tongue() -> None:
    assert CLOSED["HTTP"](b"GET").startswith(b"HTTP/1.1 400 ")
    answer = CLOSED["JSON-RPC"](b"{")
    assert answer.endswith(b"\n")
    assert json.loads(answer)["error"]["code"] == -32047
    assert CLOSED["TLS"](b"\x16") == bytes((21, 3, 3, 0, 2, 2, 40))


@pytest.mark.parametrize("number", [0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1])
def test_msgpack_rpc_has_its_number_back(number: int) -> None:
    asked = msgpack.packb([0, number, "x", []])
    answer = msgpack.unpackb(CLOSED["msgpack-rpc"](asked))
    assert answer == [1, number, [0, "this port does not speak msgpack-rpc"], None]


@pytest.mark.parametrize(
    "asked", [b"\x94", b"\x94\0", b"\x94\0\xce\0\0", b"\x94\0\xa1x", b"\x93\2\xa1x\x90", b"\xdc\0"]
)
def test_what_has_no_number_gets_none(asked: bytes) -> None:
    assert msgpack.unpackb(CLOSED["msgpack-rpc"](asked))[:2] == [1, 0]
