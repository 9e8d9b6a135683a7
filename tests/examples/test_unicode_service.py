import asyncio
import importlib.util
import sys
import unicodedata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fastrpc

FILE = Path(__file__).parents[2] / "examples" / "unicode_service.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("unicode_service", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["unicode_service"] = module
    spec.loader.exec_module(module)
    return module


room = load()


@pytest.fixture(scope="module")
def unicode() -> Any:
    return room.Unicode()


def test_the_whole_database_is_there(unicode: Any) -> None:
    about = unicode.about()
    assert about.unicode_version == unicodedata.unidata_version
    assert about.characters > 140_000
    assert about.built_in > 0


def test_a_character(unicode: Any) -> None:
    snowman = unicode.character("☃")
    assert (snowman.code, snowman.name) == ("U+2603", "SNOWMAN")
    assert snowman.category == "other symbol"
    assert snowman.utf8 == b"\xe2\x98\x83"
    assert unicode.character("½").value == 0.5
    assert unicode.character("é").decomposition == "0065 0301"
    assert unicode.character("\n").name == "<control>"


def test_every_category_has_words() -> None:
    seen = {unicodedata.category(chr(code)) for code in range(sys.maxunicode + 1)}
    assert seen == set(room.CATEGORIES) | room._NOT_SERVED


def test_names_and_aliases(unicode: Any) -> None:
    assert unicode.named("snowman").char == "☃"
    assert unicode.named("LINE FEED").char == "\n"
    assert unicode.named("CJK UNIFIED IDEOGRAPH-4E00").char == "一"


def test_search(unicode: Any) -> None:
    found = unicode.search("chess knight", limit=2)
    assert found.total >= 2
    assert len(found.characters) == 2
    assert all("CHESS KNIGHT" in character.name for character in found.characters)
    assert {c.name for c in unicode.search("chess kn*").characters} >= {"WHITE CHESS KNIGHT"}
    assert unicode.search("nosuchword").total == 0
    assert len(unicode.search("cjk", limit=200).characters) == 200


def test_a_block(unicode: Any) -> None:
    got = asyncio.run(unicode.block(0x41, 26))
    assert "".join(character.char for character in got) == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert asyncio.run(unicode.block(0xD800, 200)) == []  # halves of pairs are no characters
    assert len(asyncio.run(unicode.block(sys.maxunicode, 200))) == 0


def test_a_text(unicode: Any) -> None:
    assert [c.char for c in unicode.text("banana")] == ["b", "a", "n"]


@pytest.mark.parametrize(
    ("method", "arguments", "code"),
    [
        ("character", ["ab"], "NOT_ONE_CHARACTER"),
        ("character", [""], "NOT_ONE_CHARACTER"),
        ("character", ["\uffff"], "NOT_ASSIGNED"),
        ("named", ["nobody"], "UNKNOWN_NAME"),
        ("named", [""], "UNKNOWN_NAME"),
        ("text", ["a" * 1001], "OUT_OF_RANGE"),
        ("search", [" - "], "NO_WORDS"),
        ("search", ["a", 0], "OUT_OF_RANGE"),
        ("search", ["a", 201], "OUT_OF_RANGE"),
        ("search", ["a*"], "OUT_OF_RANGE"),
    ],
)
def test_errors_have_a_code_and_words(
    unicode: Any, method: str, arguments: list[Any], code: str
) -> None:
    with pytest.raises(fastrpc.RpcError) as caught:
        getattr(unicode, method)(*arguments)
    assert caught.value.code == room.Code[code]
    assert caught.value.message


@pytest.mark.parametrize("arguments", [(-1, 1), (sys.maxunicode + 1, 1), (0, 0), (0, 201)])
def test_a_block_has_bounds(unicode: Any, arguments: tuple[int, int]) -> None:
    with pytest.raises(fastrpc.RpcError, match=r"must be"):
        asyncio.run(unicode.block(*arguments))


@pytest.mark.asyncio
async def test_it_is_served_as_it_is(unicode: Any) -> None:
    server = fastrpc.Server()
    server.register(unicode)
    await server.start("tcp://127.0.0.1:0")
    async with fastrpc.connect(server.targets[0]) as client:
        stub = client.stub(room.Unicode)
        assert await stub.character("☃") == room.describe(0x2603)
        assert (await stub.search("snowman", limit=1)).characters[0].char == "☃"
        with pytest.raises(fastrpc.RpcError) as caught:
            await stub.named("nobody")
        assert caught.value.code == room.Code.UNKNOWN_NAME
    await server.aclose()
