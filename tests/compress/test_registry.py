"""Compressors are found by name, in the order of preference, and only if asked for."""

import subprocess
import sys
from typing import Any

import pytest

from fastrpc.compress import (
    CompressorRegistry,
    Lz4Compressor,
    ZlibCompressor,
    ZstdCompressor,
    choose_compressors,
    default_compressors,
)
from fastrpc.errors import ConfigError
from fastrpc.protocol import Option


class Own(ZlibCompressor):
    def __init__(self, name: Any = "own") -> None:
        super().__init__()
        self.name = name


def test_default_compressors() -> None:
    compressors = default_compressors()
    assert compressors.names == ("zstd", "lz4", "zlib")
    assert [compressor.name for compressor in compressors] == ["zstd", "lz4", "zlib"]
    assert len(compressors) == 3
    assert compressors.get("zlib") is compressors.find("zlib")
    assert compressors.find("br") is compressors.find(None) is None
    assert default_compressors().get("zlib") is not compressors.get("zlib")
    assert Option(zips=compressors.names).zips == compressors.names


def test_an_unknown_name_says_what_is_known() -> None:
    with pytest.raises(
        ConfigError, match="^no compressor is called 'gzip'; known are zstd, lz4, zlib$"
    ):
        default_compressors().get("gzip")
    with pytest.raises(ConfigError, match="known are none$"):
        CompressorRegistry().get("gzip")


def test_register() -> None:
    compressors = default_compressors()
    compressors.register(Own())
    assert compressors.names == ("zstd", "lz4", "zlib", "own")
    with pytest.raises(ConfigError, match="there is a compressor named 'own' already"):
        compressors.register(Own())


@pytest.mark.parametrize(
    "name", ["", "Own", " own", "o wn", "öwn", "own\n", "-own", "x" * 33, 5, None]
)
def test_register_refuses(name: Any) -> None:
    compressors = CompressorRegistry()
    with pytest.raises(ConfigError, match="^a compressor's name must be 1 to 32 lower-case"):
        compressors.register(Own(name))
    assert len(compressors) == 0


@pytest.mark.parametrize("name", ["x", "x" * 32, "9z._+-"])
def test_what_registers_fits_hello(name: str) -> None:
    assert Option(zips=CompressorRegistry([Own(name)]).names).zips == (name,)


def test_choose_keeps_the_order() -> None:
    assert choose_compressors(("zlib", "zstd")).names == ("zlib", "zstd")
    assert choose_compressors(["lz4"]).names == ("lz4",)
    assert choose_compressors(()).names == ()


def test_choose_puts_the_users_own_first() -> None:
    mine, zlib = Own(), ZlibCompressor(level=9)
    chosen = choose_compressors(("zstd", "zlib", "own"), [mine, zlib])
    assert chosen.names == ("zstd", "zlib", "own")
    assert (chosen.get("zlib"), chosen.get("own")) == (zlib, mine)
    assert choose_compressors(("zstd",), [mine]).names == ("zstd",)


def test_choose_refuses() -> None:
    with pytest.raises(ConfigError, match="no compressor is called 'gzip'; known are own, zstd"):
        choose_compressors(("zlib", "gzip"), [Own()])
    with pytest.raises(ConfigError, match="there is a compressor named 'zlib' already"):
        choose_compressors(("zlib", "zlib"))
    for names in ("zstd", ("zlib", 5), None, {"zlib"}):
        wrong: Any = names
        with pytest.raises(ConfigError, match="^compression must be a list of names, got "):
            choose_compressors(wrong)
    with pytest.raises(ConfigError, match="a compressor's name must be"):
        choose_compressors(("zlib",), [Own("Not Lower")])


@pytest.fixture
def without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("backports.zstd", "compression.zstd", "lz4", "lz4.frame"):
        monkeypatch.setitem(sys.modules, module, None)
    for parent in ("backports", "compression"):
        if parent in sys.modules:
            monkeypatch.delattr(sys.modules[parent], "zstd", raising=False)


@pytest.mark.usefixtures("without_extras")
def test_without_the_extras_there_is_zlib() -> None:
    assert default_compressors().names == ("zlib",)
    assert choose_compressors(("zlib",)).names == ("zlib",)


@pytest.mark.usefixtures("without_extras")
@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_an_extra_that_is_missing_says_how_to_install_it(name: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^{name} is not installed: pip install 'fastrpc\[{name}\]'$"
    ):
        choose_compressors((name,))


@pytest.mark.parametrize(
    ("kind", "lowest", "highest"),
    [(ZlibCompressor, 1, 9), (ZstdCompressor, 1, 19), (Lz4Compressor, 0, 12)],
)
def test_levels(kind: Any, lowest: int, highest: int) -> None:
    text = b"level " * 100
    for right in (lowest, highest):
        assert len(kind(level=right).compress(text)) < 100
    wrong: list[Any] = [lowest - 1, highest + 1, True, 1.0, "1", None]
    for level in wrong:
        with pytest.raises(ConfigError, match=f"the level of {kind.name} must be {lowest} to"):
            kind(level=level)


PROBE = """
import sys
def loaded():
    return sorted({"backports.zstd", "compression.zstd", "lz4"} & set(sys.modules))
import fastrpc, fastrpc.compress
from fastrpc.compress import choose_compressors
print(loaded())
choose_compressors(("zlib",))
choose_compressors(())
print(loaded())
choose_compressors(("lz4",))
print(loaded())
"""


@pytest.mark.slow
def test_no_library_is_imported_before_somebody_asks() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("[]\n[]\n['lz4']\n", "")
