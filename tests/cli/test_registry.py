import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fastrpc
from fastrpc.cluster import Instance, Listing, open_registry
from fastrpc.cluster.registrar.store import Store
from tests.cli.served import invoke

ONE = Instance(id="one", addresses=("tcp://127.0.0.1:7000",))


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run `fastrpc registry` in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fastrpc", "registry", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def publish_and_list(target: str, *, wanted: bool) -> Listing:
    registry = open_registry(target.replace("tcp", "registry"))
    if wanted:
        await registry.publish("Arith", ONE)
    try:
        return await registry.list("Arith")
    finally:
        await registry.aclose()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_keeps_and_stops(number: int, tmp_path: Path) -> None:
    words = ["--bind", "tcp://127.0.0.1:0", "--data", str(tmp_path / "registry.db")]
    with running(*words, "--json") as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert (told["event"], told["pid"]) == ("serving", process.pid)
        (target,) = told["targets"]
        assert asyncio.run(publish_and_list(target, wanted=True)).instances == (ONE,)
        second = invoke("registry", *words)
        assert second.exit_code == 2
        assert "database is locked" in second.stderr
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out, err) == (0, "", "")
    with running(*words) as process:  # and a person reads where it is
        assert process.stdout is not None
        line = process.stdout.readline().rstrip()
        assert line.startswith("registry on tcp://127.0.0.1:")
        target = line.removeprefix("registry on ")
        assert asyncio.run(publish_and_list(target, wanted=False)).instances == (ONE,)
        process.terminate()
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out, err) == (0, "", "stopped\n")


def test_a_file_that_cannot_be_used_is_wrong_usage(tmp_path: Path) -> None:
    result = invoke("registry", "--data", str(tmp_path), "--json")
    assert result.exit_code == 2
    assert "registry file" in json.loads(result.stdout)["error"]["message"]


def test_a_file_that_is_broken_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    Store(str(path)).close()
    base = sqlite3.connect(path)
    rows = [("p/s", f"x{number}", b"t" * 1000, "me", 15.0) for number in range(100)]
    base.executemany("insert into entry values (?, ?, ?, ?, ?)", rows)
    base.commit()
    base.close()
    whole = path.read_bytes()  # its first pages are kept, so that it opens
    path.write_bytes(whole[:8192] + b"\x99" * (len(whole) - 8192))
    result = invoke("registry", "--data", str(path))
    assert result.exit_code == 2
    assert "database disk image is malformed" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_taken_port_is_told(target: str) -> None:
    result = invoke("registry", "--bind", target)
    assert result.exit_code == 5
    assert "in use" in result.stderr


@pytest.mark.parametrize("words", [["--bind", "ftp://x"], ["--ttl", "0"], ["--key", "nowhere.pem"]])
def test_wrong_usage(words: list[str]) -> None:
    assert invoke("registry", *words).exit_code == 2


def test_what_is_asked_for_is_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    class Fake:
        def __init__(self, *words: object, **options: object) -> None:
            made.append((words, options))

    monkeypatch.setattr("fastrpc.cli.registry.Registrar", Fake)
    monkeypatch.setattr("fastrpc.cli.registry.run_registrar", lambda *_, **__: None)
    words = ["--data", "x.db", "--ttl", "30", "--client-ca", "ca.pem"]
    assert invoke("registry", *words).exit_code == 0
    tls = fastrpc.TlsOptions(ca="ca.pem")
    assert made == [(("x.db",), {"max_ttl": 30.0, "tls": tls})]
