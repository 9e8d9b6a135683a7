"""`fastrpc.run` in a process of its own, and the signals that end it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

import fastrpc

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, logging, sys, time
import fastrpc

logging.basicConfig(level="INFO", format="%(message)s")


class Work:
    def __init__(self) -> None:
        self._begun = False

    def has_begun(self) -> bool:
        return self._begun

    async def pause(self, seconds: float) -> str:
        self._begun = True
        await asyncio.sleep(seconds)
        return "done"

    async def forever(self) -> None:
        self._begun = True
        try:
            await asyncio.Event().wait()
        finally:
            print("cleaned up", flush=True)

    async def stubborn(self) -> None:
        self._begun = True
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                print("no", flush=True)

    @fastrpc.rpc(blocking=True)
    def thread(self) -> None:
        self._begun = True
        time.sleep(3600)

    async def interrupt(self) -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt


server = fastrpc.Server()
server.register(Work())

fastrpc.run(
    server,
    *sys.argv[2:],
    grace=float(sys.argv[1]),
    ready=lambda targets: print(*targets, flush=True),
)
print("returned", flush=True)
"""


class Process:
    """A server process: its target, and what it has printed."""

    def __init__(self, *targets: str, grace: float = 5.0) -> None:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.popen = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, str(grace), *targets],
            cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self.popen.stdout is not None
        self.stdout: IO[str] = self.popen.stdout
        self.target = self.stdout.readline().split()[0]

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def end(self, patience: float = 20.0) -> tuple[int, str, str]:
        """Wait for the end; return exit code and what was printed."""
        out, err = self.popen.communicate(timeout=patience)
        return self.popen.returncode, out, err

    def call_in_thread(self, method: str, *args: Any) -> "Calling":
        calling = Calling(self.target, method, args)
        calling.start()
        with fastrpc.connect_sync(self.target, timeout=20.0) as client:
            while not client.call("Work.has_begun"):
                assert calling.is_alive()
        return calling


class Calling(threading.Thread):
    """One call from a thread, so that the test can send signals meanwhile."""

    def __init__(self, target: str, method: str, args: tuple[Any, ...]) -> None:
        super().__init__(daemon=True)
        self.target, self.method, self.args = target, method, args
        self.outcome: Any = None

    def run(self) -> None:
        with fastrpc.connect_sync(self.target, timeout=20.0) as client:
            try:
                self.outcome = client.call(self.method, *self.args)
            except fastrpc.FastRPCError as exc:
                self.outcome = exc


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.popen.kill()
        process.popen.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_drains_and_run_returns(number: int, processes: list[Process]) -> None:
    processes.append(process := Process("tcp://127.0.0.1:0"))
    calling = process.call_in_thread("Work.pause", 0.5)
    process.signal(number)
    calling.join(5)
    assert calling.outcome == "done"
    code, out, err = process.end()
    assert (code, out, err) == (0, "returned\n", "")


@pytest.mark.slow
def test_calls_that_never_end_are_stopped_when_the_grace_is_over(
    processes: list[Process], tmp_path: Path
) -> None:
    processes.append(process := Process(f"unix://{tmp_path}/sock", grace=0.2))
    calling = process.call_in_thread("Work.forever")
    process.signal(signal.SIGTERM)
    code, out, err = process.end()
    assert (code, out, err) == (0, "cleaned up\nreturned\n", "")
    calling.join(5)
    assert isinstance(calling.outcome, fastrpc.Cancelled)
    assert not (tmp_path / "sock").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["Work.stubborn", "Work.thread"])
def test_handlers_that_will_not_end_do_not_keep_the_process(
    method: str, processes: list[Process]
) -> None:
    processes.append(process := Process("tcp://127.0.0.1:0", grace=0.1))
    calling = process.call_in_thread(method)
    process.signal(signal.SIGTERM)
    code, out, err = process.end()
    assert code == 0
    assert out.endswith("returned\n")
    assert "although they were cancelled: 1" in err
    calling.join(5)
    assert isinstance(calling.outcome, fastrpc.Cancelled)


@pytest.mark.slow
def test_a_second_signal_stops_at_once(processes: list[Process]) -> None:
    processes.append(process := Process("tcp://127.0.0.1:0", grace=600.0))
    calling = process.call_in_thread("Work.forever")
    process.signal(signal.SIGTERM)
    time.sleep(0.2)
    assert process.popen.poll() is None
    process.signal(signal.SIGINT)
    code, out, _ = process.end()
    assert (code, out) == (0, "cleaned up\nreturned\n")
    calling.join(5)
    assert isinstance(calling.outcome, fastrpc.ConnectionLost)


@pytest.mark.slow
def test_an_interrupt_that_reaches_a_handler_is_meant_for_the_server(
    processes: list[Process], tmp_path: Path
) -> None:
    processes.append(process := Process(f"unix://{tmp_path}/sock"))
    calling = Calling(process.target, "Work.interrupt", ())
    calling.start()
    code, out, err = process.end()
    calling.join(5)
    assert code in (-signal.SIGINT, 128 + signal.SIGINT)
    assert (out, "KeyboardInterrupt" in err) == ("", True)
    assert not (tmp_path / "sock").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((), {}), "no target"),
        ((("mem://x",), {"workers": 0}), "workers"),
        ((("mem://x",), {"workers": 2}), "only one process"),
        ((("mem://x",), {"plain": "allow"}), "no tls"),
        ((("mem://x",), {"doors": ["window"]}), "window"),
    ],
)
def test_arguments_of_no_sense(arguments: Any, words: str) -> None:
    targets, options = arguments
    with pytest.raises(fastrpc.ConfigError, match=words):
        fastrpc.run(fastrpc.Server(), *targets, **options)


def test_an_address_that_can_not_be_had_is_an_error_and_leaves_nothing() -> None:
    server = fastrpc.Server()
    with pytest.raises(fastrpc.TransportError, match="can't listen"):
        fastrpc.run(server, "tcp://192.0.2.1:9")  # an address of nobody's


def test_what_ready_raises_ends_the_server(tmp_path: Path) -> None:
    server = fastrpc.Server()

    def refuse(targets: list[str]) -> None:
        raise RuntimeError(targets[0])

    with pytest.raises(RuntimeError, match="unix://"):
        fastrpc.run(server, f"unix://{tmp_path}/sock", ready=refuse)
    assert repr(server).startswith("<Server closed")
    assert not (tmp_path / "sock").exists()


def test_run_in_a_thread_ends_when_the_server_is_closed() -> None:
    # No signals there: whoever wants it to end closes the server on its loop.
    server = fastrpc.Server()

    class Work:
        def stop(self) -> None:
            loop = server._side.ticker.loop  # type: ignore[union-attr]
            loop.call_soon(lambda: setattr(self, "closing", loop.create_task(server.aclose(0))))

    server.register(Work())
    thread = threading.Thread(target=fastrpc.run, args=(server, "tcp://127.0.0.1:0"))
    thread.start()
    while not server.targets:
        time.sleep(0.001)
    with fastrpc.connect_sync(server.targets[0]) as client:
        client.call("Work.stop")
        thread.join(5)
    assert not thread.is_alive()
