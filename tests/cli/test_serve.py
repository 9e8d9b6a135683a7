import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fastrpc
from tests.cli.served import invoke

SLOW = """
import asyncio, fastrpc

class Slow:
    started = False
    async def wait(self) -> str:
        self.started = True
        await asyncio.sleep(0.3)
        return "finished"
    def has_started(self) -> bool:
        return self.started
"""


@contextmanager
def serving(*words: str, folder: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run `fastrpc serve` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fastrpc", "serve", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_serves_calls_and_stops(number: int, tmp_path: Path) -> None:
    socket = f"unix://{tmp_path}/s"
    words = ["math:gcd", "--bind", "tcp://127.0.0.1:0", "--bind", socket, "--json"]
    with serving(*words) as process:
        told = json.loads(first_line(process))
        assert told["event"] == "serving"
        assert told["pid"] == process.pid
        assert told["targets"][1] == socket
        for target in told["targets"]:
            with fastrpc.connect_sync(target, timeout=5) as client:
                assert client.call("gcd", 12, 18) == 6
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.slow
def test_a_person_reads_the_real_target() -> None:
    with serving("math:gcd", "--bind", "tcp://127.0.0.1:0") as process:
        line = first_line(process)
        assert line.startswith("serving on tcp://127.0.0.1:")
        assert not line.endswith(":0")
        process.terminate()
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out, err) == (0, "", "stopped\n")


@pytest.mark.slow
def test_open_calls_are_finished_before_the_end(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    with serving("slow:Slow", "--bind", "tcp://127.0.0.1:0", "--json", folder=tmp_path) as process:
        target = json.loads(first_line(process))["targets"][0]
        call = subprocess.Popen(
            [sys.executable, "-m", "fastrpc", "call", target, "Slow.wait"],
            stdout=subprocess.PIPE,
            text=True,
        )
        with fastrpc.connect_sync(target, timeout=5) as client:
            while not client.call("Slow.has_started"):
                pass
        process.terminate()
        out, _ = call.communicate(timeout=10)
        assert (call.returncode, out) == (0, '"finished"\n')
        assert process.wait(timeout=10) == 0


def test_what_cannot_be_served_is_wrong_usage() -> None:
    result = invoke("serve", "math:nothing")
    assert result.exit_code == 2
    assert "'math' has no 'nothing'" in result.stderr


def test_a_wrong_target_is_wrong_usage() -> None:
    result = invoke("serve", "math:gcd", "--bind", "ftp://x", "--json")
    assert result.exit_code == 2
    assert "ftp" in json.loads(result.stdout)["error"]["message"]


def test_a_taken_port_is_told(target: str) -> None:
    result = invoke("serve", "math:gcd", "--bind", target)
    assert result.exit_code != 0
    assert "error: " in result.stderr
    assert "in use" in result.stderr


def test_plain_needs_a_certificate() -> None:
    result = invoke("serve", "math:gcd", "--bind", "mem://x", "--plain")
    assert result.exit_code == 2
    assert "there is no tls" in result.stderr


@pytest.mark.parametrize("words", [["--debug-token", "x" * 16], ["--host", "a"], ["--origin", "*"]])
def test_a_ready_server_has_options_of_its_own(words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "ready.py"
    file.write_text("import fastrpc\nserver = fastrpc.Server()\n")
    result = invoke("serve", str(file), *words)
    assert result.exit_code == 2
    assert "a ready server with options of its own" in result.stderr


def test_options_of_http_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[fastrpc.Server] = []
    monkeypatch.setattr(fastrpc, "run", lambda server, *_, **__: ran.append(server))
    monkeypatch.setenv("FASTRPC_DEBUG_TOKEN", "correct-horse-battery")
    words = [
        "--origin",
        "https://a.example",
        "--origin",
        "https://b.example",
        "--host",
        "c.example",
    ]
    assert invoke("serve", "math:gcd", *words).exit_code == 0
    monkeypatch.delenv("FASTRPC_DEBUG_TOKEN")
    assert invoke("serve", "math:gcd").exit_code == 0
    assert invoke("serve", "math:gcd", "--debug-token", "short").exit_code == 2
    assert [server.options.http for server in ran] == [
        fastrpc.HttpOptions(
            debug_token="correct-horse-battery",
            origins=("https://a.example", "https://b.example"),
            hosts=("c.example",),
        ),
        fastrpc.HttpOptions(),
    ]


def _asked(target: str, method: str) -> object:
    with fastrpc.connect_sync(target, timeout=10) as client:
        return client.call(method)


def _said(process: subprocess.Popen[str], words: str) -> str:
    """Read what it tells on standard error until it says so; return all of it."""
    assert process.stderr is not None
    told = ""
    while words not in told:
        line = process.stderr.readline()
        assert line, told
        told += line
    return told


@pytest.mark.slow
def test_workers_read_the_code_that_is_there_when_they_start(tmp_path: Path) -> None:
    shop = tmp_path / "shop.py"
    shop.write_text("import os\ndef what() -> list: return [1, os.getppid()]\n")
    words = ["shop", "--workers", "2", "--bind", "tcp://127.0.0.1:0", "--json", "--reload"]
    with serving(*words, folder=tmp_path) as process:
        told = json.loads(first_line(process))
        assert told["pid"] == process.pid
        target = told["targets"][0]
        assert _asked(target, "shop.what") == [1, process.pid]
        shop.write_text(shop.read_text().replace("[1,", "[2, 2,"))
        assert "changed: shop.py" in _said(process, "reload: done")
        assert _asked(target, "shop.what") == [2, 2, process.pid]
        good = shop.read_text()
        shop.write_text("def what(:\n")
        assert "SyntaxError" in _said(process, "the old workers go on serving")
        assert _asked(target, "shop.what") == [2, 2, process.pid]
        shop.write_text(good.replace("[2, 2,", "[3, 3, 3,"))
        _said(process, "reload: done")
        assert _asked(target, "shop.what") == [3, 3, 3, process.pid]
        process.send_signal(signal.SIGHUP)
        _said(process, "reload: done")
        process.terminate()
        assert process.wait(timeout=10) == 0


@pytest.mark.slow
def test_code_that_is_broken_at_first_is_waited_for_with_reload(tmp_path: Path) -> None:
    shop = tmp_path / "shop.py"
    shop.write_text("def what(:\n")
    words = ["shop", "--bind", "tcp://127.0.0.1:0", "--json", "--reload"]
    with serving(*words, folder=tmp_path) as process:
        _said(process, "waiting for a change")
        shop.write_text("def what() -> int: return 1\n")
        target = json.loads(first_line(process))["targets"][0]
        assert _asked(target, "shop.what") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["math:nothing"], 2, "'math' has no 'nothing'"),
        (["math:gcd", "--plain"], 2, "there is no tls"),
        (["broken"], 5, "no worker could be started: ZeroDivisionError"),
    ],
)
def test_what_no_worker_can_serve_is_told_and_ends(
    words: list[str], code: int, told: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    every = [*words, "--workers", "2", "--bind", "tcp://127.0.0.1:0"]
    with serving(*every, folder=tmp_path) as process:
        _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert told in err.splitlines()[-1]
