"""Take the registry away for minutes, under load: no call may fail, and all come back.

    python -m tests.soak.outage --minutes 10
    python -m tests.soak.outage --minutes 2 --engines etcd,zookeeper,redis,registry

For each engine, all side by side: a real one, three instances that announce themselves
there, and a client that found them there. The registry is killed. One of the instances is
killed, too, and started again, while nobody can tell anybody of it. Then the registry is
started again: as it was, or empty if it keeps nothing.

Checked: no idempotent call has failed; after the registry's return the client's list is
fresh and has the three instances that live, within 5 s and the time to live of an entry.
"""

import argparse
import asyncio
import collections
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

import fastrpc
from tests.cluster.engines.etcd_server import Etcd
from tests.cluster.engines.process import free_port
from tests.cluster.engines.redis_server import RedisServer
from tests.cluster.engines.zookeeper_server import ZooKeeperServer

TTL = 3.0  # of the instances, see `member`
BACK = 5.0
INSTANCES = 3


@dataclass
class Engine:
    """A registry in the hand.

    Attributes:
        target: Where it is.
        kill: Ends it at once.
        start: Starts it again, where it was.
        close: Ends it for good.
    """

    target: str
    kill: Callable[[], None]
    start: Callable[[], None]
    close: Callable[[], None]


class Registrar:
    """fastrpc's own registry, with a file."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._file = folder / "registry.db"
        self._process: subprocess.Popen[str] | None = None
        self.target = f"registry://127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "fastrpc", "registry", "--data", str(self._file)]
        command += ["--bind", f"tcp://127.0.0.1:{self._port}", "--json"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        json.loads(self._process.stdout.readline())

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()


def etcd(folder: Path) -> Engine:
    server = Etcd("one", folder)

    def start() -> None:
        server.start()
        server.wait_ready()

    start()
    return Engine(f"etcd://{server.place}", server.kill, start, server.kill)


def zookeeper(folder: Path) -> Engine:
    server = ZooKeeperServer(folder)

    def start() -> None:
        server.start()
        server.wait()

    start()
    return Engine(server.target, server.kill, start, server.kill)


def redis(folder: Path) -> Engine:
    server = RedisServer()
    server.start()
    return Engine(server.target, server.kill, server.start, server.kill)


def registry(folder: Path) -> Engine:
    server = Registrar(folder)
    server.start()
    return Engine(server.target, server.kill, server.start, server.kill)


ENGINES = {"etcd": etcd, "zookeeper": zookeeper, "redis": redis, "registry": registry}


@dataclass
class Outcome:
    """What one engine's outage did.

    Attributes:
        name: Of the engine.
        calls: How many were made.
        failed: Those that failed, by what they said.
        back: Seconds from the registry's return until the list was whole and fresh.
    """

    name: str
    calls: int = 0
    failed: collections.Counter[str] = field(default_factory=collections.Counter)
    back: float = float("inf")

    def __str__(self) -> str:
        """Tell all of it in a line."""
        failed = sum(self.failed.values())
        worst = "".join(f"; {count} x {text}" for text, count in self.failed.most_common(3))
        return (
            f"{self.name}: {self.calls:,} calls, {failed} failed, back in {self.back:.1f} s{worst}"
        )

    @property
    def is_well(self) -> bool:
        """Whether nothing was lost."""
        return not self.failed and self.back <= BACK + TTL


class Scene:
    """One engine, its instances and its client."""

    def __init__(self, name: str, folder: Path, outcome: Outcome) -> None:
        self.engine = ENGINES[name](folder)
        self.runs = folder / "runs"
        self.runs.write_bytes(bytes(10**6))
        self.outcome = outcome
        self.members: list[subprocess.Popen[bytes]] = []

    def start_member(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.soak.member", self.engine.target, str(self.runs)]
        process = subprocess.Popen([*command, "0", "0.2"], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        self.members.append(process)
        return process

    def close(self) -> None:
        for process in self.members:
            process.kill()
            process.communicate()
        self.engine.close()


async def load(client: fastrpc.Client, outcome: Outcome, rate: float, over: asyncio.Event) -> None:
    """Call at a fixed rate until it is over."""
    key = 0
    while not over.is_set():
        key = (key + 1) % 10**6
        try:
            await client.call("Member.get", key, 1)
        except fastrpc.FastRPCError as error:
            outcome.failed[f"{type(error).__name__}: {error}"] += 1
        outcome.calls += 1
        await asyncio.sleep(1 / rate)


def is_whole(client: fastrpc.Client) -> bool:
    """Say whether the list is fresh and has all who live, and nobody else."""
    stats = client.stats()
    ready = [each for each in stats.instances if each.state == "ready"]
    return stats.freshness == "fresh" and len(ready) == len(stats.instances) == INSTANCES


async def play(scene: Scene, minutes: float, rate: float) -> None:
    """Let one registry be away, and come back."""
    for _ in range(INSTANCES):
        await asyncio.to_thread(scene.start_member)
    over = asyncio.Event()
    target = f"{scene.engine.target}/Member"
    async with fastrpc.connect(target, timeout=5.0, ttl=TTL) as client:
        loading = asyncio.create_task(load(client, scene.outcome, rate, over))
        while not is_whole(client):
            await asyncio.sleep(0.05)
        await asyncio.to_thread(scene.engine.kill)
        await asyncio.sleep(minutes * 30)
        lost = scene.members.pop(0)
        lost.kill()
        await asyncio.to_thread(lost.communicate)
        await asyncio.to_thread(scene.start_member)
        await asyncio.sleep(minutes * 30)
        await asyncio.to_thread(scene.engine.start)
        began = time.monotonic()
        while not is_whole(client) and time.monotonic() < began + 60.0:
            await asyncio.sleep(0.05)
        scene.outcome.back = time.monotonic() - began
        await asyncio.sleep(1.0)
        over.set()
        await loading


async def drive(engines: list[str], folder: Path, minutes: float, rate: float) -> list[Outcome]:
    """Play all engines side by side."""
    outcomes = [Outcome(name) for name in engines]
    with ExitStack() as running:
        scenes = []
        for outcome in outcomes:
            room = folder / outcome.name
            room.mkdir()
            scene = await asyncio.to_thread(Scene, outcome.name, room, outcome)
            running.callback(scene.close)
            scenes.append(scene)
        await asyncio.gather(*[play(scene, minutes, rate) for scene in scenes])
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=200.0, help="calls a second, each engine")
    parser.add_argument("--engines", default=",".join(ENGINES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = uvloop.run(
            drive(options.engines.split(","), Path(folder), options.minutes, options.rate)
        )
    for outcome in outcomes:
        print(outcome)
    is_well = all(outcome.is_well for outcome in outcomes)
    print("all well" if is_well else "NOT WELL")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
