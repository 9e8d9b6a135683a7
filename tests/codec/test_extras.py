"""Codecs with a library of their own are opened by name, and only then."""

import os
import subprocess
import sys

import pytest

import fastrpc
from fastrpc.codec import CodecRegistry, default_codecs, extra, is_typed_only
from fastrpc.codec.extras import EXTRAS
from fastrpc.errors import ConfigError, TooLarge
from fastrpc.wire import Limits

NUMBERS = {"protobuf": 4, "cbor": 5, "arrow": 6, "xml": 29, "avro": 30, "thrift": 31}
SCHEMAS = {"protobuf", "arrow", "avro", "thrift"}


@pytest.mark.parametrize("name", EXTRAS)
def test_opened_by_name(name: str) -> None:
    codec = extra(name)
    assert (codec.name, codec.serializer) == (name, NUMBERS[name])
    assert is_typed_only(codec) == (name in SCHEMAS)


def test_all_fit_into_one_registry() -> None:
    codecs = default_codecs()
    for name in EXTRAS:
        codecs.register(name)
    assert codecs.names == {"raw": 0, "msgpack": 1, "json": 2} | NUMBERS
    with pytest.raises(ConfigError, match="a codec named 'cbor' already"):
        codecs.register("cbor")


def test_those_of_the_house_need_no_types() -> None:
    assert not any(is_typed_only(codec) for codec in default_codecs().with_pickle())


def test_choosing_opens() -> None:
    codecs = default_codecs()
    assert codecs.choose("cbor") is codecs.get("cbor") is codecs.choose("cbor")
    assert codecs.choose("json") is codecs.get("json")
    with pytest.raises(ConfigError, match="no codec is called 'yaml'"):
        codecs.choose("yaml")


def test_limits_reach_codecs_given_by_name() -> None:
    codecs = CodecRegistry(["cbor"], Limits(max_depth=1))
    with pytest.raises(TooLarge, match="max_depth"):
        codecs.get("cbor").decode(b"\x81\x80")
    assert "cbor" in CodecRegistry(["cbor"], Limits(max_depth=1)).with_pickle().names


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no codec 'yaml' to open; there are protobuf, cbor"):
        extra("yaml")


@pytest.mark.parametrize("name", sorted(name for name, item in EXTRAS.items() if item.needs))
def test_a_missing_library_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = EXTRAS[name].needs
    for module in list(sys.modules):
        if module == needs or module.startswith(f"{needs}.") or module == EXTRAS[name].module:
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", [_Without(needs), *sys.meta_path])
    with pytest.raises(
        ConfigError, match=rf"'{name}' needs {needs}: pip install 'fastrpc\[{name}\]'"
    ):
        extra(name)
    for start in (
        lambda: fastrpc.Server(codecs=[name]),
        lambda: fastrpc.connect("mem://x", codec=name),
    ):
        with pytest.raises(ConfigError, match=f"fastrpc\\[{name}\\]"):
            start()


class _Without:
    """A machine on which a package is not installed."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_broken_library_says_so_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fastrpc.codec.cbor", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_Without("fastrpc.codec.cbor_limits"), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "fastrpc.codec.cbor_limits", raising=False)
    with pytest.raises(ModuleNotFoundError, match="cbor_limits"):
        extra("cbor")


# No compiled twin: what is looked at is the same in both.
PURE = {**os.environ, "FASTRPC_PURE": "1"}
QUIET = """
import sys
import fastrpc, fastrpc.testing, fastrpc.codec
fastrpc.Server(); fastrpc.connect("mem://x")
loaded = {"google.protobuf", "cbor2", "pyarrow", "fastavro", "thriftpy2", "xml", "pyexpat"} & set(sys.modules)
assert not loaded, loaded
"""


@pytest.mark.slow
def test_importing_fastrpc_imports_none_of_the_libraries() -> None:
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, env=PURE)
    assert done.returncode == 0, done.stderr
