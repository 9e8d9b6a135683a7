"""Contracts are written and compared from a shell."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastrpc.cli import schema as command
from tests.cli.served import invoke

OLD = '''
from dataclasses import dataclass

@dataclass
class Item:
    name: str
    cents: int = 0

class Shop:
    def find(self, number: int) -> Item:
        """Return one item."""
    def order(self, name: str, count: int = 1) -> str: ...
'''
HARMLESS = OLD.replace("count: int = 1", "count: int = 1, gift: bool = False")
BREAKING = OLD.replace("name: str\n", "name: str\n    weight: float\n").replace(
    "find(self, number: int)", "find(self, number: str)"
)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    before = set(sys.modules)
    for name, text in (("old", OLD), ("harmless", HARMLESS), ("breaking", BREAKING)):
        Path(f"{name}_shop.py").write_text(text, encoding="utf-8")
    yield
    for name in set(sys.modules) - before:
        if name.endswith("_shop"):
            del sys.modules[name]


def test_dump_writes_the_contract() -> None:
    result = invoke("schema", "dump", "old_shop:Shop")
    assert result.exit_code == 0
    assert result.stdout.startswith("{\n")
    told = json.loads(result.stdout)
    assert set(told) == {"$schema", "fastrpc", "services", "$defs"}
    (service,) = told["services"]
    assert [method["name"] for method in service["methods"]] == ["Shop.find", "Shop.order"]
    assert set(told["$defs"]) == {"Item"}
    line = invoke("schema", "dump", "old_shop:Shop", "--json").stdout
    assert line.count("\n") == 1
    assert json.loads(line) == told


def test_no_changes() -> None:
    result = invoke("schema", "diff", "old_shop:Shop", "old_shop.py:Shop")
    assert (result.exit_code, result.stdout) == (0, "no changes\n")


def test_harmless_changes_are_no_failure() -> None:
    Path("old.json").write_text(invoke("schema", "dump", "old_shop:Shop").stdout)
    result = invoke("schema", "diff", "old.json", "harmless_shop:Shop")
    assert result.exit_code == 0
    head, row, total = result.stdout.splitlines()
    assert head.split() == ["verdict", "method", "where", "what", "why"]
    assert row.startswith("harmless  Shop.order  parameter 'gift'  added")
    assert total == "0 breaking, 1 harmless"


def test_breaking_changes_have_an_exit_code_and_come_first() -> None:
    result = invoke("schema", "diff", "old_shop:Shop", "breaking_shop:Shop")
    assert result.exit_code == 6
    rows = [line.split()[0] for line in result.stdout.splitlines()]
    assert rows == ["verdict", "breaking", "harmless", "1"]
    assert "1 breaking, 1 harmless" in result.stdout
    back = invoke("schema", "diff", "breaking_shop:Shop", "old_shop:Shop")
    assert back.exit_code == 6


def test_json() -> None:
    result = invoke("schema", "diff", "old_shop:Shop", "breaking_shop:Shop", "--json")
    assert result.exit_code == 6
    told = json.loads(result.stdout)
    assert (told["breaking"], told["harmless"]) == (1, 1)
    assert told["changes"][0] == {
        "kind": "argument-type-narrowed",
        "breaking": True,
        "method": "Shop.find",
        "where": "parameter 'number'",
        "text": "was integer, is string",
        "why": "Something that was sent before is no longer taken.",
    }


def test_a_server_is_asked(target: str) -> None:
    dumped = invoke("describe", target, "--schema").stdout
    Path("served.json").write_text(dumped)
    assert invoke("schema", "diff", "served.json", target).stdout == "no changes\n"
    short = target.removeprefix("tcp://")
    assert invoke("schema", "diff", short, "-", stdin=dumped).stdout == "no changes\n"
    result = invoke("schema", "diff", target, "old_shop:Shop")
    assert result.exit_code == 6
    assert "Callers get MethodNotFound" in result.stdout.replace("Its callers", "Callers")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON, or nested too deeply"),
        ("5", "the contract must be an object, got int"),
        ("{}", "this is no contract of form 1"),
    ],
)
def test_a_file_that_is_no_contract(text: str, words: str) -> None:
    Path("bad.json").write_text(text)
    result = invoke("schema", "diff", "bad.json", "old_shop:Shop")
    assert result.exit_code == 2
    assert f"bad.json {words}" in result.stderr or f"bad.json: {words}" in result.stderr


def test_files_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    dumped = invoke("schema", "dump", "old_shop:Shop", "--json").stdout
    Path("old.json").write_text(dumped)
    monkeypatch.setattr(command, "MAX_FILE", len(dumped.encode()))
    assert invoke("schema", "diff", "old.json", "old_shop:Shop").exit_code == 0
    monkeypatch.setattr(command, "MAX_FILE", len(dumped.encode()) - 1)
    result = invoke("schema", "diff", "old.json", "old_shop:Shop")
    assert result.exit_code == 2
    assert "a contract has at most" in result.stderr


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("gone.json", 2, "gone.json: No such file"),
        ("gone_shop:Shop", 2, "there is no module 'gone_shop'"),
        ("old_shop:Cart", 2, "has no 'Cart'"),
        ("tcp://127.0.0.1:1", 3, "can't connect"),
    ],
)
def test_a_source_that_is_not_there(source: str, code: int, words: str) -> None:
    result = invoke("schema", "diff", source, "old_shop:Shop")
    assert result.exit_code == code
    assert words in result.stderr


def test_wrong_usage() -> None:
    assert invoke("schema", "diff", "old_shop:Shop").exit_code == 2
    assert invoke("schema", "merge").exit_code == 2


@pytest.mark.parametrize("words", [("schema", "dump"), ("schema", "diff")])
def test_help_has_examples_and_exit_codes(words: tuple[str, str]) -> None:
    output = invoke(*words, "--help").output
    assert f"fastrpc {' '.join(words)} " in output.partition("Examples:\n")[2]
    assert "6 a change breaks callers" in " ".join(output.split())
    assert max(map(len, output.splitlines())) <= 100


def test_names_from_elsewhere_cannot_command_the_terminal() -> None:
    told = json.loads(invoke("schema", "dump", "old_shop:Shop").stdout)
    told["services"][0]["methods"][0]["name"] = "Shop.\x1b[2J" + "x" * 500
    Path("evil.json").write_text(json.dumps(told))
    result = invoke("schema", "diff", "evil.json", "old_shop:Shop")
    assert result.exit_code == 6
    assert "\x1b[2J" not in result.stdout
    assert "x" * 300 not in result.stdout
