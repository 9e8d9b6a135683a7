"""Codecs are found by name and number, and pickle only by those who asked."""

import os
import subprocess
import sys
from typing import Any

import pytest

from fastrpc.codec import CodecRegistry, MsgpackCodec, default_codecs
from fastrpc.errors import ConfigError, TooLarge
from fastrpc.wire import Limits


class Own(MsgpackCodec):
    def __init__(self, name: Any = "own", serializer: Any = 16) -> None:
        super().__init__()
        self.name = name
        self.serializer = serializer


def test_default_codecs() -> None:
    codecs = default_codecs()
    assert codecs.names == {"raw": 0, "msgpack": 1, "json": 2}
    assert len(codecs) == 3
    assert [codec.name for codec in codecs] == ["raw", "msgpack", "json"]
    assert codecs.get("json") is codecs.find(2)
    assert codecs.find(3) is codecs.find(31) is None
    assert default_codecs().get("raw") is not codecs.get("raw")


def test_limits_reach_json() -> None:
    codec = default_codecs(Limits(max_depth=1, max_items=2)).get("json")
    assert codec.decode(b"[1,2]") == [1, 2]
    for data in (b"[[]]", b"[1,2,3]"):
        with pytest.raises(TooLarge):
            codec.decode(data)


def test_an_unknown_name_says_what_is_known() -> None:
    with pytest.raises(
        ConfigError, match="no codec is called 'msgpak'; known are raw, msgpack, json"
    ):
        default_codecs().get("msgpak")


@pytest.mark.parametrize("number", [16, 31])
def test_register(number: int) -> None:
    codecs = default_codecs()
    codecs.register(Own(serializer=number))
    assert codecs.names["own"] == number
    assert codecs.find(number) is codecs.get("own")


def test_numbers_of_the_wire_document() -> None:
    codecs = default_codecs()
    codecs.register(Own("protobuf", 4))
    codecs.register(Own("cbor", 5))
    with pytest.raises(ConfigError, match="codec 'arrow' has number 6, got 16"):
        codecs.register(Own("arrow", 16))


@pytest.mark.parametrize(
    ("name", "number", "text"),
    [
        ("own", 15, "must be 16 to 31, got 15"),
        ("own", 32, "must be 16 to 31, got 32"),
        ("own", 7, "must be 16 to 31, got 7"),
        ("own", True, "must be an int, got True"),
        ("own", "16", "must be an int, got '16'"),
        ("Own", 16, "lower-case ASCII"),
        ("", 16, "lower-case ASCII"),
        (" own", 16, "lower-case ASCII"),
        ("öwn", 16, "lower-case ASCII"),
        ("o\nwn", 16, "lower-case ASCII"),
        ("json", 2, "a codec named 'json' already"),
        ("pickle", 3, "switched on with pickle=True"),
    ],
)
def test_register_refuses(name: str, number: Any, text: str) -> None:
    codecs = default_codecs()
    with pytest.raises(ConfigError, match=text):
        codecs.register(Own(name, number))
    assert len(codecs) == 3


def test_a_number_belongs_to_one_codec() -> None:
    codecs = CodecRegistry([Own("one", 16)])
    with pytest.raises(ConfigError, match="number 16 of codec 'two' belongs to 'one'"):
        codecs.register(Own("two", 16))


def test_pickle_is_in_a_copy() -> None:
    codecs = default_codecs()
    codecs.register(Own())
    trusting = codecs.with_pickle()
    assert codecs.find(3) is None
    assert trusting.names == {"raw": 0, "msgpack": 1, "json": 2, "own": 16, "pickle": 3}
    assert trusting.get("own") is codecs.get("own")
    assert trusting.with_pickle().names == trusting.names
    with pytest.raises(ConfigError, match="no codec is called 'pickle'"):
        codecs.get("pickle")


# No compiled twin: what is looked at is the same in both.
PURE = {**os.environ, "FASTRPC_PURE": "1"}
QUIET = """
import sys
import fastrpc.codec, fastrpc.call, fastrpc.codec.plain
codecs = fastrpc.codec.default_codecs()
try:
    codecs.get("pickle")
except fastrpc.codec.registry.ConfigError:
    pass
loaded = {"pickle", "_pickle", "fastrpc.codec.pickled"} & set(sys.modules)
assert not loaded, loaded
import fastrpc.codec.pickled
assert "pickle" not in sys.modules
codecs.with_pickle()
assert "pickle" in sys.modules
"""


@pytest.mark.slow
def test_pickle_is_not_even_imported() -> None:
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, env=PURE)
    assert done.returncode == 0, done.stderr
