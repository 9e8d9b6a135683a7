"""Real ZooKeepers on ports of their own: one, or an ensemble of three."""

import contextlib
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.cluster.engines.process import ServerProcess, Start, free_port

_PATIENCE = 25.0

#: Milliseconds: sessions end at the next multiple of it.
TICK = 200

# The first names most of the others; what its encrypted port needs is not among them.
_JARS = ":".join(
    f"/usr/share/java/{name}.jar"
    for name in ("zookeeper", "netty-codec", "netty-resolver", "slf4j-nop")
)
_JAVA = (
    "java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto -Xmx128m -cp"
    f" {_JARS} -Dzookeeper.admin.enableServer=false -Dzookeeper.forceSync=no"
    " -Dzookeeper.jmx.log4j.disable=true -Dzookeeper.preAllocSize=64"
).split()


class ZooKeeperServer(ServerProcess):
    """One server, alone or of an ensemble.

    Args:
        folder: Of its own.
        number: In the ensemble, from 1.
        address: Where it listens.
        more: Lines of its configuration.
        start: What starts its process.
        port: Its clients' port; a free one by default.
    """

    def __init__(
        self,
        folder: Path,
        number: int = 1,
        address: str = "127.0.0.1",
        more: Sequence[str] = (),
        start: Start = subprocess.Popen,
        port: int = 0,
    ) -> None:
        super().__init__(start)
        self.address = address
        self.port = port or free_port()
        self._main = "quorum.QuorumPeerMain"
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "myid").write_text(str(number))
        self._config = folder / "zoo.cfg"
        lines = [
            f"tickTime={TICK}",
            "initLimit=50",
            "syncLimit=10",
            f"dataDir={folder / 'data'}",
            f"clientPortAddress={address}",
            f"clientPort={self.port}",
            "minSessionTimeout=400",
            "maxSessionTimeout=60000",
            "maxClientCnxns=0",
            "4lw.commands.whitelist=srvr",
            *more,
        ]
        self._config.write_text("\n".join(lines))

    @property
    def host(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def target(self) -> str:
        return f"zookeeper://{self.host}"

    def start(self) -> None:
        """Start it; it is not ready yet."""
        self._run(
            [*_JAVA, f"org.apache.zookeeper.server.{self._main}", str(self._config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._config.parent,
        )

    def mode(self) -> str:
        """Return "standalone", "leader", "follower", or "" if it does not serve."""
        text = b""
        # With netty below it resets the connection after its answer.
        with contextlib.suppress(OSError):
            with socket.create_connection((self.address, self.port), 2.0) as connection:
                connection.sendall(b"srvr")
                while piece := connection.recv(65536):
                    text += piece
        return text.partition(b"Mode: ")[2].partition(b"\n")[0].decode()

    def wait(self) -> None:
        """Wait until it serves."""
        self._until(self.mode, _PATIENCE)


class ZooKeepers:
    """Servers in a folder of their own: one, or as many as there are *addresses*.

    Args:
        addresses: Of each server of an ensemble.
        starts: What starts the process of each.
        port: The clients' port of each; free ones by default.
        more: Lines of their configuration.
    """

    def __init__(
        self,
        addresses: Sequence[str] = ("127.0.0.1",),
        starts: Sequence[Start] = (),
        port: int = 0,
        more: Sequence[str] = (),
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="zookeeper-")
        if len(addresses) > 1:
            more = [
                *more,
                *(
                    f"server.{number}={address}:{free_port()}:{free_port()}"
                    for number, address in enumerate(addresses, 1)
                ),
            ]
        self.servers = [
            ZooKeeperServer(
                Path(self._folder.name, str(number)),
                number,
                address,
                more,
                starts[number - 1] if starts else subprocess.Popen,
                port,
            )
            for number, address in enumerate(addresses, 1)
        ]

    @property
    def target(self) -> str:
        return "zookeeper://" + ",".join(server.host for server in self.servers)

    def leader(self) -> ZooKeeperServer:
        """Return the server that leads."""
        return next(server for server in self.servers if server.mode() in ("leader", "standalone"))

    def __enter__(self) -> "ZooKeepers":
        try:
            for server in self.servers:
                server.start()
            if not any(server._start is not subprocess.Popen for server in self.servers):
                for server in self.servers:
                    server.wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self.servers:
            server.kill()
        self._folder.cleanup()


def session_packet(timeout_ms: int, id: int, password: bytes) -> bytes:
    """Return how a client says which session it is in; its form is as old as ZooKeeper."""
    body = (0).to_bytes(4, "big") + (0).to_bytes(8, "big") + timeout_ms.to_bytes(4, "big")
    body += id.to_bytes(8, "big", signed=True) + len(password).to_bytes(4, "big") + password
    return len(body).to_bytes(4, "big") + body


_CLOSE = (8).to_bytes(4, "big") + (1).to_bytes(4, "big") + (-11).to_bytes(4, "big", signed=True)


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionError("ZooKeeper closed the connection")
        data += piece
    return data


def end_session(server: ZooKeeperServer, known: tuple[int, bytes]) -> None:
    """End another client's session, as if it had run out: its nodes are gone after this."""
    with socket.create_connection((server.address, server.port), _PATIENCE) as connection:
        connection.sendall(session_packet(10_000, *known))
        _read(connection, int.from_bytes(_read(connection, 4), "big"))
        connection.sendall(_CLOSE)
        _read(connection, int.from_bytes(_read(connection, 4), "big"))


def known_of(registry: Any) -> tuple[int, bytes]:
    """Return what proves the session of a `ZooKeeperRegistry`."""
    client = registry._session._client
    known: tuple[int, bytes] | None = client.client_id
    assert known is not None
    return known
