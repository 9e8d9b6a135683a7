"""Real etcds for tests: one, or several that are one cluster, to be killed and paused.

They elect and expire quickly. Ports are free ones, data is in a folder of the test's; on hosts
of a `Net` they use the usual ports.
"""

import base64
import contextlib
import http.client
import json
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.cluster.engines.netns import Net
from tests.cluster.engines.process import ServerProcess, free_port

_QUICK = ("--heartbeat-interval", "50", "--election-timeout", "300", "--log-level", "error")


class Etcd(ServerProcess):
    """One server of a cluster.

    Args:
        name: Of the server; on a `Net` the name of its host.
        folder: Where its data and what it says are kept.
        net: Whose hosts it is on.
    """

    def __init__(self, name: str, folder: Path, net: Net | None = None) -> None:
        super().__init__(partial(net.popen, name) if net is not None else subprocess.Popen)
        self.name = name
        self.host = net.address(name) if net is not None else "127.0.0.1"
        self.port, self.peer_port = (2379, 2380) if net is not None else (free_port(), free_port())
        self.peer = f"http://{self.host}:{self.peer_port}"
        self.members = f"{name}={self.peer}"
        self._folder = folder / name
        self._folder.mkdir(parents=True)
        self._net = net
        self.data = self._folder / "data"

    @property
    def place(self) -> str:
        """Host and port of its clients."""
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        """Start it, on what it has kept."""
        client = f"http://{self.place}"
        command = [
            "etcd", "--name", self.name, "--data-dir", str(self.data), *_QUICK,
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer,
            "--initial-cluster", self.members, "--initial-cluster-state", "new",
        ]  # fmt: skip
        with (self._folder / "log").open("ab") as log:
            self._run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait_ready(self) -> None:
        """Wait until it has a leader and answers."""
        self._until(lambda: _quietly(lambda: "header" in self.ask("kv/range", {"key": b64("x")})))

    def wait_listening(self) -> None:
        """Wait until it answers anything, be it that nobody may ask."""
        self._until(lambda: _quietly(lambda: bool(self.ask("kv/range", {"key": b64("x")}))))

    def ask(self, path: str, question: Any, login: str = "") -> Any:
        """Ask its gateway, past the registry."""
        with contextlib.ExitStack() as stack:
            if self._net is not None:
                stack.enter_context(self._net.inside(self.name))
            wire = http.client.HTTPConnection(self.host, self.port, timeout=10)
            stack.callback(wire.close)
            headers = {"Authorization": login} if login else {}
            wire.request("POST", f"/v3/{path}", json.dumps(question), headers)
            return json.loads(wire.getresponse().read())

    def put(self, key: str, value: bytes) -> None:
        """Write a key."""
        self.ask("kv/put", {"key": b64(key), "value": b64(value)})

    def keys(self, base: str) -> list[str]:
        """Return the keys that begin with *base*, which ends with a slash."""
        end = base[:-1] + "0"
        question = {"key": b64(base), "range_end": b64(end), "keys_only": True}
        found = self.ask("kv/range", question).get("kvs", [])
        return [base64.b64decode(each["key"]).decode() for each in found]

    def revoke(self, lease: int) -> None:
        """End a lease, as if its time was over."""
        self.ask("lease/revoke", {"ID": lease})

    def compact(self) -> None:
        """Forget every revision but the newest."""
        revision = self.ask("kv/range", {"key": b64("x")})["header"]["revision"]
        self.ask("kv/compaction", {"revision": revision, "physical": True})

    def is_leader(self) -> bool:
        """Say whether it leads its cluster, as far as it knows."""
        status = self.ask("maintenance/status", {})
        return bool(status["header"]["member_id"] == status.get("leader"))

    def _said(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-2000:]


class EtcdCluster:
    """Servers that are one cluster; started on entry, killed on exit.

    Args:
        folder: Where their data is kept.
        names: One for each; on a `Net` those of hosts.
        net: Whose hosts they are on.
    """

    def __init__(self, folder: Path, *names: str, net: Net | None = None) -> None:
        self.servers = [Etcd(name, folder, net) for name in names or ("one",)]
        members = ",".join(server.members for server in self.servers)
        for server in self.servers:
            server.members = members

    @property
    def places(self) -> str:
        """Hosts and ports, as in a target."""
        return ",".join(server.place for server in self.servers)

    def leader(self) -> Etcd:
        """Return the server that leads, of those that run."""
        return next(server for server in self.servers if server.is_leader())

    def __enter__(self) -> "EtcdCluster":
        """Start them all, and wait until they are ready."""
        try:
            for server in self.servers:
                server.start()
            for server in self.servers:
                server.wait_ready()
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
        """Kill them."""
        for server in self.servers:
            server.kill()


@contextlib.contextmanager
def one_etcd(folder: Path) -> Iterator[Etcd]:
    """Run a single etcd."""
    with EtcdCluster(folder, "one") as cluster:
        yield cluster.servers[0]


def b64(text: str | bytes) -> str:
    """Return *text* as etcd's JSON has bytes."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def _quietly(is_ready: Callable[[], bool]) -> bool:
    try:
        return is_ready()
    except (OSError, http.client.HTTPException, ValueError):
        return False
