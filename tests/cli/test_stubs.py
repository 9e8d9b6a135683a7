"""Stub classes are written to a file, or shown."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.served import invoke
from tests.docs.pages import ROOT

SHOP = "class Shop:\n    def find(self, number: int) -> str: ...\n\nshop = Shop()\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    Path("stub_shop.py").write_text(SHOP, encoding="utf-8")
    yield
    sys.modules.pop("stub_shop", None)


def test_both_kinds_are_shown() -> None:
    output = invoke("stubs", "stub_shop:Shop").stdout
    assert "class ShopAsync:" in output
    assert "class ShopSync:" in output
    assert output == invoke("stubs", "stub_shop:Shop", "--async", "--sync").stdout


@pytest.mark.parametrize(("kind", "other"), [("Async", "Sync"), ("Sync", "Async")])
def test_one_kind(kind: str, other: str) -> None:
    output = invoke("stubs", "stub_shop:Shop", f"--{kind.lower()}").stdout
    assert f"class Shop{kind}:" in output
    assert f"class Shop{other}:" not in output


def test_files_for_people_and_for_checkers_only() -> None:
    for name in ("made.py", "made.pyi"):
        result = invoke("stubs", "stub_shop:Shop", "-o", name)
        assert (result.exit_code, result.stdout) == (0, "")
    assert "raise NotImplementedError" in Path("made.py").read_text()
    interface = Path("made.pyi").read_text()
    assert "raise" not in interface
    assert "    def find(self, number: int) -> str:\n        ...\n" in interface


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("stub_shop:shop",), "is no class"),
        (("stub_shop:Gone",), "has no 'Gone'"),
        (("stub_shop:Shop", "-o", "no/such/folder.py"), "No such file"),
    ],
)
def test_wrong_usage(words: tuple[str, ...], said: str) -> None:
    result = invoke("stubs", *words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_the_stubs_of_the_typing_tests_are_what_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What mypy and pyright are shown there is what users get."""
    monkeypatch.chdir(ROOT)
    written = invoke("stubs", "tests.typing.accept.contract:Shop").stdout
    kept = (ROOT / "tests" / "typing" / "accept" / "contract_stubs.py").read_text(encoding="utf-8")
    assert written == kept
