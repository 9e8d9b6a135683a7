import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from uuid import UUID

import pytest

from fastrpc.cli.values import Arguments, parse_arguments, parse_pairs, plain, to_json
from fastrpc.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "positional", "keywords"),
    [
        ([], [], {}),
        (["1", "2"], [1, 2], {}),
        (["-1", "2.5", "1e3"], [-1, 2.5, 1000.0], {}),
        (["true", "null"], [True, None], {}),
        (['"text"', '"a=b"'], ["text", "a=b"], {}),
        (["a=1", 'b="x=y"'], [], {"a": 1, "b": "x=y"}),
        (["1", "b=[1, 2]"], [1], {"b": [1, 2]}),
        (['{"a": 1}'], [{"a": 1}], {}),
        (["größe=1"], [], {"größe": 1}),
    ],
)
def test_words_become_arguments(
    words: list[str], positional: list[object], keywords: dict[str, object]
) -> None:
    assert parse_arguments(words) == Arguments(positional, keywords)


@pytest.mark.parametrize("word", ["alice", "None", "[1, 2", "01", "", "1=2"])
def test_a_word_that_is_not_json_is_refused_with_the_way_to_write_it(word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_arguments([word])
    assert f"'{json.dumps(word)}'" in str(caught.value)
    assert "--text" in str(caught.value)


def test_the_way_to_write_a_keyword_names_it() -> None:
    with pytest.raises(ConfigError, match=r"""write 'name="alice"'"""):
        parse_arguments(["name=alice"])


def test_text_takes_what_is_not_json() -> None:
    assert parse_arguments(["alice", "1", "b=bob"], text=True) == (["alice", 1], {"b": "bob"})


def test_a_keyword_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="'a' is given twice"):
        parse_arguments(["a=1", "a=2"])


def test_at_stands_for_the_bytes_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "data.bin"
    file.write_bytes(b"\x00\xff")
    assert parse_arguments([f"@{file}", f"d=@{file}"]) == ([b"\x00\xff"], {"d": b"\x00\xff"})


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"@/nowhere/x: No such file"):
        parse_arguments(["@/nowhere/x"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("[1, 2]", ([1, 2], {})), ('{"a": 1}', ([], {"a": 1})), ("[]", ([], {}))],
)
def test_all_arguments_as_one_json(text: str, expected: object) -> None:
    assert parse_arguments([], args_json=text) == expected


@pytest.mark.parametrize("text", ["1", '"x"', "null", "{", ""])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--args-json"):
        parse_arguments([], args_json=text)


def test_arguments_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("[7]"))
    assert parse_arguments([], args_json="-") == ([7], {})


def test_words_and_args_json_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="not both"):
        parse_arguments(["1"], args_json="[2]")


def test_arguments_read_like_a_call() -> None:
    arguments = Arguments([1, "x", b"123"], {"k": "y" * 100})
    assert str(arguments).startswith("1, 'x', <3 bytes>, k='yyy")
    assert len(str(arguments)) < 80


def test_pairs() -> None:
    assert parse_pairs(["a=1", "b=x=y"], "--metadata") == {"a": "1", "b": "x=y"}
    with pytest.raises(ConfigError, match="--metadata wants key=value, got 'a'"):
        parse_pairs(["a"], "--metadata")


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


@dataclass(slots=True)
class Point:
    x: int
    tags: list[bytes]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (2**70, 2**70),
        (1.5, 1.5),
        (float("nan"), None),
        (float("-inf"), None),
        (b"\x00\xff", "AP8="),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        ((1, {2}), [1, [2]]),
        ({1: "a", None: "b", "c": "d"}, {"1": "a", "null": "b", "c": "d"}),
        (Point(1, [b"a"]), {"x": 1, "tags": ["YQ=="]}),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (Decimal("1.10"), "1.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_every_value_has_a_json_form(value: object, expected: object) -> None:
    assert plain(value) == expected
    assert json.loads(to_json(value)) == expected


def test_json_is_one_line_and_readable() -> None:
    assert to_json({"a": "é\n"}) == '{"a": "é\\n"}'
