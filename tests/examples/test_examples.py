"""Every example runs as a script and says what it should."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.slow


def run(name: str, *words: str, seconds: float = 25.0) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(FOLDER / name), *words],
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_arith() -> None:
    assert run("arith.py").splitlines() == [
        "serving on a free port",
        "by name:     3",
        "by keyword:  3",
        "by stub:     42",
        "1000 at once: 999000",
    ]


def test_blocking() -> None:
    lines = run("blocking.py").splitlines()
    assert [line.split()[1] for line in lines[:-1]] == sorted(p.name for p in FOLDER.glob("*.py"))
    assert lines[-1] == "refused: 404 there is no file 'missing.py'"


def test_errors() -> None:
    lines = [line.partition(":")[2].strip() for line in run("errors.py").splitlines()]
    assert lines[:3] == [
        "70",
        "RpcError code=402 data={'balance': 70} ran=yes",
        "RemoteError type=ZeroDivisionError ran=yes",
    ]
    assert lines[3].startswith("InvalidArgument ran=no: ")
    assert "'amount'" in lines[3]
    assert lines[4].startswith("MethodNotFound ran=no: ")
    assert lines[5:] == ["DeadlineExceeded ran=maybe", "ConnectFailed ran=no"]


def test_streams() -> None:
    assert run("streams.py").splitlines() == [
        "from the server: Reading(sensor='roof', celsius=20.0)",
        "from the server: Reading(sensor='roof', celsius=20.5)",
        "to the server:   Reading(sensor='roof', celsius=24.0)",
        "both ways:       [21.0, 22.5]",
        "by hand:         13.0",
    ]


def test_chat() -> None:
    lines = run("chat.py").splitlines()
    said = [line for line in lines if " reads " in line]
    assert sorted(said) == [
        "ann reads  cid: bye",
        "ann reads  room: bob came",
        "ann reads  room: cid came",
        "bob reads  ann: hello",
        "bob reads  room: cid came",
        "cid reads  ann: hello",
    ]
    assert [line for line in lines if line not in said] == [
        "ann joins ann",
        "bob joins ann bob",
        "cid joins ann bob cid",
        "refused: [409] there is a bob here",
        "told: 2",
        "told: 1",
    ]


@pytest.mark.timeout(120)
def test_demo(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("Schach: ♞ é\n" * 3, encoding="utf-8")
    out = run("demo.py", "--seconds", "0.3", str(text), seconds=100.0)
    assert "looked up 36 characters" in out
    assert "BLACK CHESS KNIGHT" in out
    assert "an error of the service: code 1, no character is called 'SNOWMAN ON HOLIDAY'" in out
    assert out.count("calls/s") == 2
    assert "256 in flight" in out
    assert "one at a time" in out
    assert re.search(r"look on while it lasts: http://127\.0\.0\.1:\d+/debug/rpc\n", out)
    assert "one was killed with SIGKILL" in out
    assert out.count("restarted number") == 3
    calls = re.search(r"\n([\d,]+) calls, 0 failed\n\Z", out)
    assert calls is not None
    assert int(calls[1].replace(",", "")) > 1000
