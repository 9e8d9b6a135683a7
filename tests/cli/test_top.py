import contextlib
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from fcntl import ioctl

import pytest

import fastrpc
from tests.cli.fleet import Fleet
from tests.cli.served import invoke


@contextlib.contextmanager
def calling(target: str) -> Iterator[None]:
    """Call a method over and over meanwhile."""
    end, begun = threading.Event(), threading.Event()

    def call() -> None:
        with fastrpc.connect_sync(target) as client:
            while not end.wait(0.001):
                client.call("Arith.add", 1)
                with contextlib.suppress(fastrpc.RpcError):
                    client.call("Arith.refuse")
                begun.set()

    thread = threading.Thread(target=call)
    thread.start()
    try:
        assert begun.wait(10)
        yield
    finally:
        end.set()
        thread.join(10)


def test_one_view_of_a_server(target: str) -> None:
    with calling(target):
        result = invoke("top", target, "--once", "--interval", "0.2")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == f"{target}   1 instance"
    (add,) = [line.split() for line in lines if line.startswith("Arith.add ")]
    assert float(add[1].replace(",", "")) > 0
    (refuse,) = [line.split() for line in lines if line.startswith("Arith.refuse ")]
    assert refuse[1] == refuse[2] != "0"
    assert lines[-1].split()[:2] == [target, "serving"]


def test_json_of_a_cluster(fleet: Fleet) -> None:
    with calling(fleet.addresses[1]):
        result = invoke("top", fleet.service, "--once", "--interval", "0.2", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert told["target"] == fleet.service
    idle, busy = told["instances"]
    assert [idle["zone"], busy["zone"]] == ["eu-1", "eu-2"]
    assert (idle["calls_per_second"], idle["state"]) == (0.0, "serving")
    assert busy["calls_per_second"] == told["calls_per_second"] > 0
    assert busy["errors_per_second"] > 0
    names = {each["name"] for each in told["methods"]}
    assert {"Arith.add", "Arith.refuse"} <= names
    assert not names & {"fastrpc.health"}  # what is asked here is not shown


@pytest.mark.parametrize(
    ("target", "code"),
    [("unix:///nowhere/x.sock", 3), ("registry://127.0.0.1:1/Arith", 3), ("ftp://x", 2)],
)
@pytest.mark.parametrize("more", [[], ["--json", "--once"]])
def test_errors_have_their_exit_codes(target: str, code: int, more: list[str]) -> None:
    result = invoke("top", target, *more)
    assert result.exit_code == code
    assert ("error" in json.loads(result.stdout)) if more else ("error: " in result.stderr)


def test_nobody_answers(fleet: Fleet) -> None:
    result = invoke("top", f"{fleet.registry}/Mixed", "--once", "--interval", "0.2")
    assert result.exit_code == 3
    assert "1 instance, 1 does not answer\n" in result.stdout


@pytest.mark.parametrize("words", [["--sort", "size"], ["--interval", "0"], ["--methods", "64"]])
def test_wrong_usage(words: list[str], target: str) -> None:
    assert invoke("top", target, *words).exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_in_a_pipe_there_is_one_view_after_the_other(target: str, more: list[str]) -> None:
    words = [sys.executable, "-m", "fastrpc", "top", target, "--interval", "0.2", *more]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as top:
        assert top.stdout is not None
        seen = 0
        while seen < 3:
            line = top.stdout.readline()
            assert "\x1b" not in line
            seen += line.startswith(("{", f"{target}   1 instance"))
        top.send_signal(signal.SIGINT)
        _, err = top.communicate(timeout=10)
    assert (top.returncode, err) == (0, "")


class Terminal:
    """A terminal of 100 x 20 in which the command runs."""

    def __init__(self, *words: str) -> None:
        self.fd, end = pty.openpty()
        ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 100, 0, 0))
        self.before = termios.tcgetattr(end)
        kept = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fastrpc", "top", *words],
            stdin=end, stdout=end, stderr=end, env={**kept, "TERM": "xterm-256color"},
        )  # fmt: skip
        self.end = end
        self.text = ""

    def until(self, wanted: str) -> None:
        """Read until *wanted* is shown."""
        while wanted not in self.text:
            ready, _, _ = select.select([self.fd], [], [], 15)
            assert ready, self.text
            self.text += os.read(self.fd, 65536).decode("utf-8", "replace")

    def leave(self) -> int:
        """Wait for the end, let go of the terminal and return the exit code."""
        self.until("\x1b[?1049l")  # the screen is as it was before
        code = self.process.wait(10)
        assert termios.tcgetattr(self.end) == self.before
        os.close(self.fd)
        os.close(self.end)
        return code


@pytest.mark.slow
@pytest.mark.parametrize("how", ["q", "SIGINT", "SIGTERM"])
def test_on_a_terminal(fleet: Fleet, how: str) -> None:
    terminal = Terminal(fleet.service, "--interval", "0.2", "--sort", "name")
    try:
        terminal.until("\x1b[?1049h")
        terminal.until(fleet.service)
        for address in fleet.addresses:
            terminal.until(address)
        terminal.until("\x1b[7mname")
        os.write(terminal.fd, b"xp")
        terminal.until("\x1b[7mp99")
        if how == "q":
            os.write(terminal.fd, b"q")
        else:
            terminal.process.send_signal(signal.Signals[how])
        assert terminal.leave() == 0
        assert "Traceback" not in terminal.text
    finally:
        terminal.process.kill()
        terminal.process.wait()


@pytest.mark.slow
def test_it_ends_when_its_terminal_is_closed(fleet: Fleet) -> None:
    terminal = Terminal(fleet.service, "--interval", "0.2")
    try:
        terminal.until(fleet.addresses[1])
        os.close(terminal.fd)
        os.close(terminal.end)
        assert terminal.process.wait(10) == 0
    finally:
        terminal.process.kill()
        terminal.process.wait()
