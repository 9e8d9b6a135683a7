"""`fastrpc serve --registry`: what is told to whom."""

from typing import Any

import click.testing
import pytest

import fastrpc
from fastrpc.cli import serve as serve_module
from fastrpc.cli.serve import serve


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Note what is run or supervised, in place of doing it."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(fastrpc, "run", lambda *args, **options: found.append(options))
    monkeypatch.setattr(serve_module, "supervise", lambda *args, **options: found.append(options))
    return found


def invoke(*words: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(serve, ["math:sqrt", *words])


def test_one_process_is_told_where_to_announce(told: list[dict[str, Any]]) -> None:
    assert invoke("--registry", "etcd://h", "--advertise", "me", "--zone", "eu").exit_code == 0
    (options,) = told
    assert options["registry"] == "etcd://h"
    assert options["announce"] == {"advertise": "me", "zone": "eu"}


def test_workers_are_told_together(told: list[dict[str, Any]]) -> None:
    assert invoke("--registry", "etcd://h", "--zone", "eu", "--workers", "2").exit_code == 0
    (options,) = told
    assert options["announcement"].registry == "etcd://h"
    assert options["announcement"].options["zone"] == "eu"


@pytest.mark.parametrize("words", [(), ("--workers", "2")])
def test_nobody_is_told_without_a_registry(
    told: list[dict[str, Any]], words: tuple[str, ...]
) -> None:
    assert invoke(*words).exit_code == 0
    (options,) = told
    assert options.get("registry") is None
    assert options.get("announcement") is None


@pytest.mark.parametrize("words", [("--zone", "eu"), ("--advertise", "me")])
def test_what_is_for_a_registry_needs_one(told: list[dict[str, Any]], words: Any) -> None:
    result = invoke(*words)
    assert result.exit_code == 2
    assert "--registry" in result.output
    assert told == []


def test_a_registry_that_is_none() -> None:
    result = invoke("--bind", "mem://serve-registry", "--registry", "tcp://h:1")
    assert result.exit_code == 2
    assert "names no registry" in result.output
