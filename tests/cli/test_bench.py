import json
import signal
import subprocess
import sys

import pytest

from tests.cli.served import Background, invoke

pytestmark = pytest.mark.slow

SHORT = ["--duration", "0.2", "--warmup", "0.05"]


@pytest.mark.parametrize(
    ("more", "mode", "connections"),
    [
        (["-c", "16"], "closed", 1),
        (["-c", "16", "--connections", "2"], "closed", 2),
        (["--rate", "500"], "open", 1),
        (["--blocking", "-c", "2"], "closed", 2),
        (["--blocking", "--rate", "200"], "open", 1),
        (["-c", "4", "--codec", "json", "--timeout", "5", "-m", "trace=x"], "closed", 1),
    ],
    ids=["closed", "connections", "open", "blocking", "blocking open", "options"],
)
def test_numbers_for_programs(target: str, more: list[str], mode: str, connections: int) -> None:
    result = invoke("bench", target, "Arith.add", "1", "2", *SHORT, *more, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert told["mode"] == mode
    assert told["connections"] == connections
    assert told["latency_from"] == ("due" if mode == "open" else "sent")
    assert told["errors"] == {}
    assert told["unfinished"] == 0
    assert told["calls_per_second"] > 10
    latency = told["latency"]
    assert 0 < latency["min"] <= latency["p50"] <= latency["p99"] <= latency["max"]
    assert sum(row["count"] for row in told["histogram"]) == told["calls"] > 0


def test_numbers_for_people(target: str) -> None:
    result = invoke("bench", target, "Arith.add", "1", "2", *SHORT, "-c", "8")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"Arith.add(1, 2) on {target}"
    assert lines[1] == "closed loop, 8 in flight"
    assert "calls/s" in lines[3]
    assert "p99.9" in result.stdout
    assert "█" in result.stdout
    assert result.stderr == ""


def test_the_open_loop_says_what_its_latency_counts_from(target: str) -> None:
    result = invoke("bench", target, "Arith.add", "1", "2", *SHORT, "--rate", "200")
    line = result.stdout.splitlines()[1]
    assert line.startswith("open loop, 200 calls/s due, at most 256 in flight; ")
    assert "the moment a call was due (no coordinated omission)" in line


@pytest.mark.parametrize("more", [[], ["--blocking"]])
@pytest.mark.parametrize(
    ("words", "code"), [(["Arith.bug"], 1), (["Arith.sub"], 5), (["Arith.add", "x"], 2)]
)
def test_a_call_that_fails_ends_the_bench_before_it_starts(
    target: str, words: list[str], code: int, more: list[str]
) -> None:
    result = invoke("bench", target, *words, "--duration", "60", *more)
    assert result.exit_code == code
    assert "error: " in result.stderr


def test_nobody_there() -> None:
    assert invoke("bench", "unix:///nowhere/x.sock", "Arith.add").exit_code == 3


def test_blocking_has_no_shared_connections(target: str) -> None:
    result = invoke("bench", target, "Arith.add", "1", "--blocking", "--connections", "2")
    assert result.exit_code == 2
    assert "--concurrency" in result.stderr


@pytest.mark.parametrize("more", [[], ["--blocking"], ["--rate", "100"]])
def test_ctrl_c_ends_it_with_what_was_measured(background: Background, more: list[str]) -> None:
    background.arith.calm()
    words = ["bench", background.target, "Arith.tick", "-d", "60", "--warmup", "0", "-c", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "fastrpc", *words, *more], stdout=subprocess.PIPE, text=True
    ) as process:
        assert background.arith.busy.wait(20)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert "p99.9" in process.stdout.read()
    assert process.returncode == 0
