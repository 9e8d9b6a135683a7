"""A real Redis on a port of its own, to be paused, killed and started again."""

import socket
import subprocess
import tempfile
from collections.abc import Sequence
from types import TracebackType

from tests.cluster.engines.process import ServerProcess, free_port

_PATIENCE = 20.0


class RedisServer(ServerProcess):
    """One server; it keeps nothing on disk, so who kills it empties it.

    Args:
        options: More of the command line.
    """

    def __init__(self, *options: str) -> None:
        super().__init__()
        self.port = free_port()
        self._options = options
        self._folder = tempfile.TemporaryDirectory(prefix="redis-")

    @property
    def target(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        plain = [
            "--bind",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self._run(
            ["redis-server", *plain, "--enable-debug-command", "local", *self._options],
            cwd=self._folder.name,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._until(self._listens)

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0):
                return True
        except OSError:
            return False

    def send(self, *words: str | bytes) -> None:
        """Send a command, and don't wait for its answer."""
        with socket.create_connection(("127.0.0.1", self.port), _PATIENCE) as connection:
            connection.sendall(_pack(words))

    def ask(self, *words: str | bytes) -> bytes:
        """Send a command, and return what the server says, as it stands on the wire."""
        with socket.create_connection(("127.0.0.1", self.port), _PATIENCE) as connection:
            connection.sendall(_pack(words))
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        assert not answer.startswith(b"-"), answer
        return answer

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._folder.cleanup()


def _pack(words: Sequence[str | bytes]) -> bytes:
    parts = [each.encode() if isinstance(each, str) else each for each in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)
