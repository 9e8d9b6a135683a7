import json
import signal
import subprocess
import sys

import pytest

from fastrpc.cli.ping import summary
from tests.cli.served import invoke


def test_two_answers(target: str) -> None:
    result = invoke("ping", target, "-c", "2", "--interval", "0.01")
    assert result.exit_code == 0
    first, second, last = result.stdout.splitlines()
    assert first.startswith(f"pong 1 from {target}: ")
    assert second.startswith(f"pong 2 from {target}: ")
    assert last.startswith("2 answered, 0 not; min ")


def test_json(target: str) -> None:
    told = json.loads(invoke("ping", target, "-c", "1", "--json").stdout)
    assert told["target"] == target
    assert (told["answered"], told["lost"]) == (1, 0)
    assert 0 < told["min"] == told["median"] == told["max"] < 5


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_nobody_there(more: list[str]) -> None:
    result = invoke("ping", "unix:///nowhere/x.sock", "-c", "1", *more)
    assert result.exit_code == 3


def test_a_summary_of_nothing() -> None:
    assert summary([], 2) == {"answered": 0, "lost": 2}


@pytest.mark.slow
def test_ctrl_c_ends_it_with_a_summary(target: str) -> None:
    words = [sys.executable, "-m", "fastrpc", "ping", target, "-c", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("pong 1")
        process.send_signal(signal.SIGINT)
        assert "answered, 0 not; min " in process.stdout.read()
    assert process.returncode == 0
