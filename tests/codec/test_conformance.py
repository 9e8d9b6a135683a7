"""Every codec of the house passes the checks that are made for users, too."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fastrpc.codec import CodecRegistry, RawCodec, default_codecs, fast, plain
from fastrpc.testing.codec import CODEC_CHECKS, SAMPLES, check_codec
from tests.codec.samples import ROUND_TRIPS

BYTES = [(bytes, b"x"), (bytes, b""), (bytearray, bytearray(b"yz"))]
CODECS: dict[str, tuple[Any, Sequence[tuple[Any, Any]]]] = {
    "raw": (RawCodec(), BYTES),
    "msgpack on msgspec": (fast.MsgpackCodec(), ROUND_TRIPS),
    "msgpack on msgpack": (plain.MsgpackCodec(), ROUND_TRIPS),
    "json on msgspec": (fast.JsonCodec(), ROUND_TRIPS),
    "json on Python": (plain.JsonCodec(), ROUND_TRIPS),
    "pickle": (default_codecs().with_pickle().get("pickle"), SAMPLES),
}
# Damaged pickles may do anything at all, which is why it is off.
RUNS = [
    (name, check)
    for name in CODECS
    for check in CODEC_CHECKS
    if (name, check) != ("pickle", "damaged")
]


@pytest.mark.parametrize(("name", "check"), RUNS)
def test_codec_conforms(name: str, check: str) -> None:
    codec, samples = CODECS[name]
    check_codec(codec, samples, only=check)


class Broken:
    """A codec of a user's own that is fine until a test breaks one part."""

    name = "broken"
    serializer = 17

    def __init__(self) -> None:
        inner = plain.MsgpackCodec()
        self.encode: Callable[..., Any] = inner.encode
        self.decode: Callable[..., Any] = inner.decode
        self.decoder: Callable[..., Any] = inner.decoder
        self.arguments: Callable[..., Any] = inner.arguments
        self.convert: Callable[..., Any] = inner.convert


def test_a_codec_of_a_users_own_conforms() -> None:
    codec = Broken()
    check_codec(codec)
    assert CodecRegistry([codec]).names == {"broken": 17}


BREAKS: dict[str, tuple[str, Any]] = {
    "identity": ("name", "Not Lower"),
    "round trip": ("convert", lambda value, type: [value]),
    "arguments": ("arguments", lambda types, required, rest: lambda data: [5]),
    "not an array": ("arguments", lambda types, required, rest: lambda data: [data]),
    "wrong type": ("convert", lambda value, type: 5),
    "unreadable type": ("decoder", lambda type: lambda data: None),
    "unsendable": ("encode", lambda value: b"\x05"),
    "owned": ("decode", lambda data: data),
    "threads": ("decode", lambda data: 5),
}


@pytest.mark.parametrize("check", BREAKS)
def test_the_checks_find_what_is_broken(check: str) -> None:
    codec = Broken()
    attribute, value = BREAKS[check]
    setattr(codec, attribute, value)
    with pytest.raises(AssertionError, match=rf"^{check} of codec "):
        check_codec(codec, only=check)
