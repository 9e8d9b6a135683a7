"""The commands that call, with a service in a registry as their target."""

import json
import logging
import subprocess
import sys

import pytest

from tests.cli.fleet import Fleet
from tests.cli.served import invoke


def test_call(fleet: Fleet) -> None:
    result = invoke("call", fleet.service, "Arith.add", "1", "--json")
    assert json.loads(result.stdout)["result"] == 3
    words = ["--zone", "eu-2", "--balance", "round_robin", "--failure-mode", "fail_fast"]
    result = invoke("call", fleet.service, "Arith.count", "3", "--stream", *words)
    assert result.stdout.split() == ["0", "1", "2"]


def test_describe(fleet: Fleet) -> None:
    assert "── add(a: int, b: int = 2) -> int" in invoke("describe", fleet.service).stdout


def test_ping(fleet: Fleet) -> None:
    told = json.loads(invoke("ping", fleet.service, "-c", "1", "--json").stdout)
    assert told["answered"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--blocking", "-c", "2"]])
def test_bench(fleet: Fleet, more: list[str]) -> None:
    words = ["--duration", "0.1", "--warmup", "0", "--balance", "random", "--json", *more]
    told = json.loads(invoke("bench", fleet.service, "Arith.add", "1", *words).stdout)
    assert told["calls"] > 0
    assert told["errors"] == {}


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--version", "2", "--connect-timeout", "0.2"], 5, "no instance is listed"),
        (["--group", "x", "--connect-timeout", "0.2"], 5, "no instance is listed"),
        (["--balance", "nope"], 2, "balance"),
        (["--failure-mode", "nope"], 2, "failure_mode"),
    ],
)
def test_what_is_chosen_by_is_handed_on(
    fleet: Fleet, words: list[str], code: int, text: str
) -> None:
    result = invoke("call", fleet.service, "Arith.add", "1", *words)
    assert result.exit_code == code
    assert text in result.stderr


def test_one_server_has_nothing_to_choose(target: str) -> None:
    result = invoke("call", target, "Arith.add", "1", "--zone", "eu-1")
    assert result.exit_code == 2
    assert "zone: only for a service in a registry" in result.stderr


def test_which_service(fleet: Fleet) -> None:
    result = invoke("call", fleet.registry, "Arith.add", "1")
    assert result.exit_code == 2
    assert "which service?" in result.stderr


@pytest.mark.slow
def test_an_error_is_told_once() -> None:
    """And not by the log, too, which nobody has set up there."""
    words = ["call", "registry://127.0.0.1:1/Arith", "Arith.add", "1", "--connect-timeout", "0.2"]
    done = subprocess.run(
        [sys.executable, "-m", "fastrpc", *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: RegistryLost: ")


def test_the_log_is_left_as_it_was() -> None:
    assert invoke("call", "unix:///nowhere/x.sock", "Arith.add", "1").exit_code == 3
    assert logging.getLogger("fastrpc").handlers == []
