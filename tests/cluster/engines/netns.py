"""A small network of namespaces, to be cut and healed: for partitions of real engines.

    with Net("one", "two", "three", "client") as net:
        process = net.popen("one", ["etcd", ..., f"http://{net.address('one')}:2379"])
        with net.loop("client") as client:
            registry = client.run(open_it())
            net.cut("client")            # from everybody
            net.cut("one", "two")        # one from two
            net.heal()

Every name is a host of its own, all on one bridge that stands in a namespace too: nothing of
the machine's own network is touched. It needs root, `ip` and `nft`.

Packets are dropped, as by a network that is broken: nobody is told that a peer is away.
"""

import asyncio
import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_RUN = Path("/run/netns")
_MARK = "frpc"

_RULES = """
table ip cut {
  chain in { type filter hook input priority 0; ip saddr { FAR } drop; }
  chain out { type filter hook output priority 0; ip daddr { FAR } drop; }
}
"""

#: Seconds that a piece of work in another namespace may take.
_PATIENCE = 60.0


class Net:
    """Hosts by name, each with an address in 10.77.0.0/24.

    Args:
        names: Of the hosts, at most 200, each of at most 8 letters.
    """

    def __init__(self, *names: str) -> None:
        self._numbers = {name: number for number, name in enumerate(names, 1)}
        self._cuts: dict[str, set[str]] = {name: set() for name in names}
        self._processes: list[subprocess.Popen[bytes]] = []

    def address(self, name: str) -> str:
        """Return the address of a host."""
        return f"10.77.0.{self._numbers[name]}"

    def popen(self, name: str, command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        """Start a process on a host; it is killed at the end at the latest."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self._space(name), *command], **options
        )  # `ip` becomes the command: signals reach it
        self._processes.append(process)
        return process

    def cut(self, name: str, *others: str) -> None:
        """Drop every packet between a host and *others*, all the rest by default."""
        self._cuts[name] |= set(others) or set(self._numbers) - {name}
        self._apply(name)

    def heal(self) -> None:
        """Make every cut undone."""
        for name, others in self._cuts.items():
            if others:
                others.clear()
                self._apply(name)

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Be on a host, with this thread alone: its new sockets are that host's."""
        with (
            open("/proc/thread-self/ns/net", "rb") as home,
            open(_RUN / self._space(name), "rb") as there,
        ):
            _set_namespace(there.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())

    @contextlib.contextmanager
    def loop(
        self, name: str, factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    ) -> Iterator["HostLoop"]:
        """Run an event loop on a host, in a thread of its own."""
        host = HostLoop(self, name, factory)
        try:
            yield host
        finally:
            host.close()

    def __enter__(self) -> "Net":
        """Build it."""
        _clean()
        try:
            self._build()
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
        """Take it down, and whatever runs there."""
        for process in self._processes:
            process.kill()
            process.wait()
        for name in ("", *self._numbers):
            if (_RUN / self._space(name)).exists():
                _ip("netns", "delete", self._space(name))

    def _build(self) -> None:
        hub = self._space("")
        _ip("netns", "add", hub)
        _ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", hub, "link", "set", "bridge", "up")
        for name, number in self._numbers.items():
            space, port = self._space(name), f"port{number}"
            _ip("netns", "add", space)
            _ip("-n", space, "link", "set", "lo", "up")
            link = ("link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", hub)
            _ip("-n", space, *link)
            _ip("-n", space, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
            _ip("-n", hub, "link", "set", port, "master", "bridge", "up")

    def _apply(self, name: str) -> None:
        rules = "table ip cut\ndelete table ip cut\n"
        if self._cuts[name]:
            far = ", ".join(self.address(other) for other in sorted(self._cuts[name]))
            rules += _RULES.replace("FAR", far)
        command = ["ip", "netns", "exec", self._space(name), "nft", "-f", "-"]
        _run(command, rules)

    def _space(self, name: str) -> str:
        return f"{_MARK}-{os.getpid()}-{name or 'hub'}"


class HostLoop:
    """An event loop on a host of a `Net`."""

    def __init__(
        self, net: Net, name: str, factory: Callable[[], asyncio.AbstractEventLoop]
    ) -> None:
        self._net = net
        self._name = name
        self._factory = factory
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        if not self._ready.wait(_PATIENCE):
            raise AssertionError(f"no event loop on {name}")

    def start(self, work: Coroutine[Any, Any, T]) -> "Any":
        """Begin *work* there; return its concurrent future."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T], timeout: float = _PATIENCE) -> T:
        """Do *work* there, and return what it gives."""
        result: T = self.start(work).result(timeout)
        return result

    def close(self) -> None:
        """Cancel what still runs there, and end."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_PATIENCE)

    def _work(self) -> None:
        with self._net.inside(self._name), asyncio.Runner(loop_factory=self._factory) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._ready.set()
        await self._stop.wait()


def _clean() -> None:
    """Take away what a killed run has left."""
    for path in _RUN.glob(f"{_MARK}-*"):
        if not Path("/proc", path.name.split("-")[1]).exists():
            _ip("netns", "delete", path.name)


def _ip(*words: str) -> None:
    _run(["ip", *words])


def _run(command: Sequence[str], text: str | None = None) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_PATIENCE)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def _set_namespace(fd: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
