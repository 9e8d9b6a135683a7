"""What servers of tests have in common that are processes: they hang, and they die."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

#: Starts a process as subprocess.Popen does.
Start = Callable[..., "subprocess.Popen[bytes]"]


class ServerProcess:
    """A server in a process of its own, to be paused, killed and started again.

    Args:
        start: What starts the process.
    """

    def __init__(self, start: Start = subprocess.Popen) -> None:
        self._start = start
        self._process: subprocess.Popen[bytes] | None = None

    def _run(self, command: Sequence[str], **options: Any) -> None:
        """Start the process; it is not ready yet."""
        self._process = self._start(command, **options)

    def kill(self) -> None:
        """End it as a power cut does."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Let it hang: its connections stay, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _until(self, is_ready: Callable[[], object], patience: float = 20.0) -> None:
        """Look again and again until it is ready, as long as the process lives."""
        end = time.monotonic() + patience
        while True:
            assert self._process is not None
            code = self._process.poll()
            assert code is None, f"it ended with {code}: {self._said()}"
            if is_ready():
                return
            assert time.monotonic() < end, f"not ready in {patience} s: {self._said()}"
            time.sleep(0.02)

    def _said(self) -> str:
        """Return what is known of it, for who reads why a test failed."""
        return type(self).__name__


def free_port() -> int:
    """Return a port of this host that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
