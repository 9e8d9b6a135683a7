"""Real processes: crashes, reloads and signals under load."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

import fastrpc
from fastrpc.server.workers import supervise
from tests.server.workers.running import Served, call, is_gone, wait_for

pytestmark = pytest.mark.slow

Start = Callable[..., Served]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start servers, and leave nothing of them behind."""
    started: list[Served] = []

    def begin(*targets: str, **options: Any) -> Served:
        started.append(Served(*(targets or ("tcp://127.0.0.1:0",)), **options))
        return started[-1]

    yield begin
    for each in started:
        each.popen.kill()
        each.popen.communicate()


class Load:
    """Calls without end from several clients; failures each with who had answered before."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.calls = 0
        self.failures: list[tuple[int, Exception]] = []
        self.pids: set[int] = set()
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Let more and more clients call, until both workers have some."""
        while len(self.pids) < 2 or len(self.tasks) < 4:
            self.tasks.append(asyncio.ensure_future(self.run()))
            calls = self.calls
            await self.until(lambda calls=calls: self.calls > calls + 10)  # type: ignore[misc]

    async def run(self) -> None:
        pid = 0
        async with fastrpc.connect(self.target, timeout=10.0) as client:
            while True:
                try:
                    pid = await client.call("Work.pid")
                    self.pids.add(pid)
                    self.calls += 1
                except fastrpc.FastRPCError as error:
                    self.failures.append((pid, error))
                    await asyncio.sleep(0.01)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def load(target: str) -> AsyncIterator[Load]:
    made = Load(target)
    try:
        await made.begin()
        yield made
    finally:
        for task in made.tasks:
            task.cancel()
        await asyncio.wait(made.tasks)


def test_a_rolling_reload_loses_no_call_and_no_count(start: Start) -> None:
    server = start()

    async def scene() -> Load:
        async with load(server.targets[0]) as running:
            for _ in range(2):  # twice in a row
                server.send(signal.SIGHUP)
            await asyncio.to_thread(server.until_said, "reload: done")
            before = running.calls
            await running.until(lambda: running.calls > before + 100)
        return running

    running = asyncio.run(scene())
    assert running.failures == []
    assert len(running.pids) >= 4
    facts = server.facts()
    (method,) = (method for method in facts["methods"] if method["name"] == "Work.pid")
    # Each client may have had one more on its way when it was stopped.
    assert 0 <= method["calls"] - running.calls <= len(running.tasks)
    assert facts["server"]["pid"] == server.popen.pid
    assert [worker["state"] for worker in facts["workers"]] == ["serving"] * 2
    assert sum(worker["calls"] for worker in facts["workers"]) < method["calls"]
    scraped = server.get("/metrics").decode()
    assert f'fastrpc_calls_total{{method="Work.pid"}} {method["calls"]}.0' in scraped
    assert 'fastrpc_workers{state="serving"} 2.0' in scraped
    code, out, err = server.end()
    assert (code, out) == (0, "returned\n"), err


def test_who_is_killed_is_restarted_and_the_others_go_on(start: Start) -> None:
    server = start()

    async def scene() -> tuple[Load, int]:
        async with load(server.targets[0]) as running:
            victim = min(running.pids)
            others = running.calls
            os.kill(victim, signal.SIGKILL)
            await running.until(lambda: len(running.failures) > 0 and running.calls > others + 50)
            await asyncio.to_thread(server.until_said, "killed by SIGKILL; restarted in")
            await asyncio.to_thread(server.until_said, "serving, pid")
        return running, victim

    running, victim = asyncio.run(scene())
    # Each of the clients that were there has lost the call that was on its way.
    assert {pid for pid, _ in running.failures} == {victim}
    assert all(isinstance(each, fastrpc.ConnectionLost) for _, each in running.failures)
    assert 0 < len(running.failures) < len(running.tasks)
    facts = server.facts()
    assert facts["restarts"] == 1
    assert sorted(worker["restarts"] for worker in facts["workers"]) == [0, 1]
    assert victim not in server.pids()

    # One that hangs is silent, and nobody waits for it: the page comes, and so do calls.
    hung = next(each["pid"] for each in facts["workers"] if not each["is_asked"])
    os.kill(hung, signal.SIGSTOP)
    states: set[tuple[str, bool]] = set()
    while ("silent", False) not in states:
        states = {(each["state"], each["is_asked"]) for each in server.facts()["workers"]}
    assert states == {("serving", True), ("silent", False)}
    os.kill(hung, signal.SIGKILL)
    server.until_said("serving, pid")
    assert server.end()[0] == 0


def test_a_signal_drains_and_nothing_is_left(start: Start, tmp_path: Path) -> None:
    server = start(f"unix://{tmp_path}/sock")
    pids = {call(server.targets[0]) for _ in range(10)}
    results: list[Any] = []
    calling = threading.Thread(
        target=lambda: results.append(call(server.targets[0], "Work.pause", 0.4))
    )
    calling.start()
    wait_for(lambda: _has_begun(server))
    code, out, err = server.end()
    calling.join(5)
    assert (results, code, out) == (["done"], 0, "returned\n"), err
    assert all(map(is_gone, pids))
    assert not (tmp_path / "sock").exists()


def _has_begun(server: Served) -> bool:
    with fastrpc.connect_sync(server.targets[0]) as client:
        return "Work" in str(client.call("fastrpc.describe"))


def test_a_second_signal_stops_at_once(start: Start) -> None:
    server = start(grace=600.0)
    results: list[Any] = []

    def calls() -> None:
        try:
            call(server.targets[0], "Work.pause", 600.0)
        except fastrpc.FastRPCError as error:
            results.append(error)

    calling = threading.Thread(target=calls)
    calling.start()
    wait_for(lambda: server.facts()["server"]["running"] == 1)
    server.send(signal.SIGINT)
    server.until_said("has left")  # the one that has nothing to do
    code, out, _ = server.end(signal.SIGINT)
    calling.join(5)
    assert (code, out) == (0, "returned\n")
    assert isinstance(results[0], fastrpc.FastRPCError)


def test_workers_drain_when_the_supervisor_is_killed(start: Start) -> None:
    server = start(workers=3)
    pids = server.pids()
    folder = _folder_of(server)
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(each.stat().st_mode & 0o777 == 0o600 for each in folder.glob("*.sock"))
    results: list[Any] = []
    calling = threading.Thread(
        target=lambda: results.append(call(server.targets[0], "Work.pause", 2.0))
    )
    calling.start()
    wait_for(lambda: server.facts()["server"]["running"] == 1)
    server.send(signal.SIGKILL)
    calling.join(10)
    assert results == ["done"]
    wait_for(lambda: all(map(is_gone, pids)))
    assert not folder.exists()


def _folder_of(server: Served) -> Path:
    """Return the private folder of a server: of the sockets of this machine, the one that is its."""
    pids = server.pids()
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) == 8 and fields[7].endswith(".sock") and "/fastrpc-" in fields[7]:
            for pid in pids:
                links = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}
                if f"socket:[{fields[6]}]" in links:
                    return Path(fields[7]).parent
    raise AssertionError("there is none")


def test_all_workers_serve_all_targets(start: Start, tmp_path: Path) -> None:
    authority = trustme.CA()
    pem = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = start(
        "tls://127.0.0.1:0", f"unix://{tmp_path}/sock", "wss://127.0.0.1:0", cert=str(pem)
    )
    tls = fastrpc.TlsOptions(ca=str(tmp_path / "ca.pem"))
    tcp, unix, ws = server.targets
    assert tcp.startswith("tls://127.0.0.1:")
    assert not tcp.endswith(":0")
    for target, options in ((tcp, {"tls": tls}), (unix, {})):
        pids: set[int] = set()
        while len(pids) < 2:
            pids.add(call(target, **options))

    async def over_websocket() -> int:
        async with fastrpc.connect(ws, tls=tls) as client:
            pid: int = await client.call("Work.pid")
            return pid

    assert asyncio.run(over_websocket()) in pids
    assert server.end()[0] == 0


def test_what_can_not_be_served_is_told_here(tmp_path: Path) -> None:
    def supervised(build: Callable[[], fastrpc.Server]) -> None:
        supervise(
            build, [f"unix://{tmp_path}/sock"], workers=2, grace=1.0, start=fastrpc.Server.start
        )

    def wrong() -> fastrpc.Server:
        raise fastrpc.ConfigError("wrong from the start")

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    with pytest.raises(fastrpc.ConfigError, match="wrong from the start"):
        supervised(wrong)

    def dies() -> fastrpc.Server:
        os._exit(3)

    with pytest.raises(fastrpc.TransportError, match="no worker could be started: exit code 3"):
        supervised(dies)
    assert {number: signal.getsignal(number) for number in before} == before
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_ready_raises_ends_all(tmp_path: Path) -> None:
    def refuse(targets: list[str]) -> None:
        raise RuntimeError(targets[0])

    with pytest.raises(RuntimeError, match="unix://"):
        fastrpc.run(fastrpc.Server(), f"unix://{tmp_path}/sock", workers=2, ready=refuse)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_only_the_main_thread_can_have_workers() -> None:
    errors: list[Exception] = []

    def runs() -> None:
        try:
            fastrpc.run(fastrpc.Server(), "tcp://127.0.0.1:0", workers=2)
        except fastrpc.ConfigError as error:
            errors.append(error)

    thread = threading.Thread(target=runs)
    thread.start()
    thread.join(5)
    assert "main thread" in str(errors[0])
