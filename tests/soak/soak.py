"""Chaos: callers cancel, connections are cut, servers are killed; nothing may be lost.

    python -m tests.soak.soak --calls 5000000      until so many calls have ended
    python -m tests.soak.soak --minutes 5          or for so long, a minute by default

Checked, as in the design's list of invariants:

* I1 every call ends exactly once, with a result or an error;
* I2 a result is the one of that very call (key and proof);
* I3 no call ran twice, and none ran whose error says that it did not;
* I4 no error comes later than the deadline and 50 ms (250 ms more: both cores are busy; and
  what the machine did not let this process run while it had work to do);
* I5 every error is one of the public tree;
* I6 afterwards calls, tasks, descriptors and memory are back where they were;
* S1 to S3 of streams, see `flows`.

Exit status 1 if one is broken. The seed is printed; the schedule of the kernel
is not ours, so a seed repeats the chaos, not the run.
"""

import argparse
import asyncio
import collections
import gc
import mmap
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

import fastrpc
from fastrpc.testing import FaultPipe
from tests.soak.flows import COUNTS_SIZE, Counts, Streams, streamer
from tests.soak.served import proof

TIMEOUT = 2.0
GRACE = 0.05 + 0.25
CANCELLED = 0.05
SLOW = 0.04
THREAD = 0.005
WORKERS = 192
STREAMERS = 3
PERIOD = 0.01
KILL_EVERY = 4.0
CUT_EVERY = 0.7

NONE, OK, NOT_RUN, UNSURE, GIVEN_UP, RAN = range(6)
FATES = {"no": NOT_RUN, "maybe": UNSURE, "yes": RAN}


class Starved:
    """How long this process had work and was not given a core, from the gaps of a timer.

    Work of its own does not count: a loop that is blocked by us is late by our fault.
    """

    def __init__(self) -> None:
        self._seen = collections.deque([(time.monotonic(), time.process_time(), 0.0)], maxlen=1000)

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            self._note()

    def within(self, seconds: float) -> float:
        """Return how much of the last *seconds* it was."""
        now, total = self._note()
        since = now - seconds - PERIOD
        return total - next((before for at, _, before in self._seen if at >= since), total)

    def _note(self) -> tuple[float, float]:
        at, spent, total = self._seen[-1]
        now, cpu = time.monotonic(), time.process_time()
        total += max(0.0, now - at - PERIOD - (cpu - spent))
        self._seen.append((now, cpu, total))
        return now, total


@dataclass
class Ledger:
    """What became of each call, by key."""

    size: int
    fates: bytearray = field(init=False)
    next_key: int = 0
    ended: int = 0
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    broken: list[str] = field(default_factory=list)
    latest: float = 0.0
    starved: Starved = field(default_factory=Starved)

    def __post_init__(self) -> None:
        self.fates = bytearray(self.size)

    def begin(self) -> int:
        key = self.next_key
        self.next_key = key + 1
        return key

    def end(self, key: int, fate: int) -> None:
        if self.fates[key]:
            self.blame(f"I1 call {key} ended twice")
        self.fates[key] = fate
        self.ended += 1

    def note_late(self, what: str, late: float) -> None:
        """Take an error that came *late* seconds after the deadline."""
        if late > GRACE:
            late -= self.starved.within(late + GRACE)
        self.latest = max(self.latest, late)
        if late > GRACE:
            self.blame(f"I4 {what}: {late:.3f} s after the deadline")

    def blame(self, text: str) -> None:
        if len(self.broken) < 50:
            self.broken.append(text)


class Fleet:
    """Server processes that are killed and started again."""

    def __init__(self, folder: Path, size: int, count: int) -> None:
        self.paths = [folder / f"runs{i}" for i in range(count)]
        for path in self.paths:
            for each, room in ((path, size), (path.with_suffix(".counts"), COUNTS_SIZE)):
                with each.open("wb") as file:
                    file.truncate(room)
        self.targets = [f"tcp://127.0.0.1:{port}" for port in _free_ports(count)]
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * count
        self.kills = 0

    def start(self, number: int) -> None:
        command = [sys.executable, "-m", "tests.soak.served"]
        command += [self.targets[number], str(self.paths[number])]
        self.processes[number] = subprocess.Popen(command)

    def kill(self, number: int, how: signal.Signals) -> None:
        process = self.processes[number]
        assert process is not None
        process.send_signal(how)
        process.wait()
        self.kills += 1

    def counts(self) -> list[Counts]:
        """Return what the servers counted of streams."""
        return [Counts(path.with_suffix(".counts").read_bytes()) for path in self.paths]

    def runs(self, size: int) -> bytes:
        """Return how often each key ran, all servers together."""
        total = bytearray(size)
        for path in self.paths:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as one:
                for key, count in enumerate(one[:size]):
                    if count:
                        total[key] += count
        return bytes(total)


def _free_ports(count: int) -> list[int]:
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in with_ports]
    for sock in with_ports:
        sock.close()
    return ports


async def caller(
    client: fastrpc.Client, ledger: Ledger, rng: random.Random, stop: asyncio.Event
) -> None:
    """Make one call after the other until told to stop."""
    loop = asyncio.get_running_loop()
    call = client.call
    while not stop.is_set() and ledger.next_key < ledger.size:
        key, nonce, dice = ledger.begin(), rng.getrandbits(40), rng.random()
        started = time.monotonic()
        cancel: asyncio.TimerHandle | None = None
        try:
            if dice < SLOW:
                answer = call("Soak.slow", key, nonce, dice / 2)
            elif dice < SLOW + THREAD:
                answer = call("Soak.thread", key, nonce)
            elif dice > 0.999:
                answer = call("Soak.quick", key, nonce, bytes(100_000))
            else:
                answer = call("Soak.quick", key, nonce)
            if rng.random() < CANCELLED:
                cancel = loop.call_later(rng.random() * 0.01, answer.cancel)
            got = await answer
        except asyncio.CancelledError:
            ledger.end(key, GIVEN_UP)
        except fastrpc.FastRPCError as exc:
            ledger.end(key, FATES[exc.ran])
            ledger.errors[f"{type(exc).__name__} ran={exc.ran}"] += 1
            late = time.monotonic() - started - TIMEOUT
            ledger.note_late(f"call {key}: {type(exc).__name__}", late)
            if isinstance(exc, fastrpc.TransportError):
                await asyncio.sleep(0.02)  # don't spend the keys on a server that is down
        except Exception as exc:
            ledger.end(key, UNSURE)
            ledger.blame(f"I5 call {key}: {exc!r}")
        else:
            ledger.end(key, OK)
            if list(got[:2]) != [key, proof(key, nonce)]:
                ledger.blame(f"I2 call {key} got {got}")
        finally:
            if cancel is not None:
                cancel.cancel()


async def chaos(
    fleet: Fleet, pipes: list[FaultPipe], rng: random.Random, stop: asyncio.Event
) -> None:
    """Kill and restart servers, cut connections."""
    next_kill = time.monotonic() + KILL_EVERY
    while not stop.is_set():
        await asyncio.sleep(CUT_EVERY * rng.random() * 2)
        if pipes:
            rng.choice(pipes).cut()
        if time.monotonic() > next_kill:
            number = rng.randrange(len(fleet.targets))
            how = signal.SIGKILL if rng.random() < 0.7 else signal.SIGTERM
            await asyncio.to_thread(fleet.kill, number, how)
            await asyncio.sleep(rng.random())
            fleet.start(number)
            next_kill = time.monotonic() + KILL_EVERY


def census() -> tuple[int, int, float]:
    """Return tasks, descriptors and MiB of this process."""
    gc.collect()
    me = psutil.Process()
    return len(asyncio.all_tasks()), me.num_fds(), me.memory_info().rss / 2**20


async def drive(
    calls: int, seconds: float, seed: int, fleet: Fleet, ledger: Ledger, streams: Streams
) -> list[str]:
    """Run the chaos and return the lines of a report."""
    rng = random.Random(seed)
    for number in range(len(fleet.targets)):
        fleet.start(number)
    stop = asyncio.Event()
    # The first thread and the first connection open what then stays with the loop.
    await asyncio.to_thread(_warm_up)
    await _up(fleet.targets)
    before = census()
    memory: list[float] = []
    began = time.monotonic()
    async with FaultPipe(fleet.targets[0]) as left, FaultPipe(fleet.targets[1]) as right:
        clients = [
            fastrpc.connect(target, timeout=TIMEOUT)
            for target in (*fleet.targets, left.target, right.target)
        ]
        workers = [
            asyncio.create_task(caller(client, ledger, random.Random(rng.random()), stop))
            for client in clients
            for _ in range(WORKERS)
        ]
        workers += [
            asyncio.create_task(
                streamer(number, client, streams, random.Random(rng.random()), TIMEOUT, stop)
            )
            for number, client in enumerate(clients)
            for _ in range(STREAMERS)
        ]
        watching = asyncio.create_task(ledger.starved.watch())
        trouble = asyncio.create_task(chaos(fleet, [left, right], rng, stop))
        warm = census()
        while ledger.ended < calls and time.monotonic() - began < seconds:
            await asyncio.sleep(1.0)
            memory.append(census()[2])
            if sys.stderr.isatty():
                print(f"\r{ledger.ended:,} calls, {fleet.kills} kills", end="", file=sys.stderr)
        stop.set()
        _, stuck = await asyncio.wait(workers, timeout=TIMEOUT + 5.0)
        if stuck:
            ledger.blame(f"I1 {len(stuck)} callers or streams never ended")
        await trouble
        watching.cancel()
        spent = time.monotonic() - began
        for client in clients:
            await client.aclose()
    await asyncio.sleep(0.2)
    after = census()
    if after[0] > before[0]:
        ledger.blame(f"I6 tasks: {before[0]} before, {after[0]} after")
    if after[1] > before[1]:
        ledger.blame(f"I6 descriptors: {before[1]} before, {after[1]} after")
    half = memory[len(memory) // 2 :] or [warm[2]]
    growth = half[-1] - half[0]
    if growth > 16.0:
        ledger.blame(f"I6 memory grew by {growth:.1f} MiB in the second half")
    return [
        f"{ledger.ended:,} calls in {spent:.0f} s ({ledger.ended / spent:,.0f}/s), seed {seed}",
        f"{fleet.kills} servers killed, {left.connections + right.connections} piped connections",
        f"latest error {ledger.latest * 1e3:+.0f} ms from its deadline, allowed {GRACE * 1e3:.0f}",
        f"tasks {before[0]} -> {after[0]}, descriptors {before[1]} -> {after[1]},"
        f" memory {warm[2]:.0f} -> {after[2]:.0f} MiB ({growth:+.1f} in the second half)",
    ]


def _warm_up() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


async def _up(targets: list[str]) -> None:
    for target in targets:
        for _ in range(200):
            try:
                async with fastrpc.connect(target):
                    break
            except fastrpc.TransportError:
                await asyncio.sleep(0.05)


def judge(ledger: Ledger, runs: bytes) -> list[str]:
    """Compare what callers were told with what ran; return the counts."""
    counts: collections.Counter[int] = collections.Counter(ledger.fates[: ledger.next_key])
    lost = counts[NONE]
    if lost:
        ledger.blame(f"I1 {lost} calls have no end")
    twice = false = missing = 0
    for key, ran in enumerate(runs[: ledger.next_key]):
        fate = ledger.fates[key]
        twice += ran > 1
        false += ran > 0 and fate == NOT_RUN
        missing += ran == 0 and fate in (OK, RAN)
    for count, text in (
        (twice, "ran twice"),
        (false, "ran though their error says no"),
        (missing, "did not run though they were answered"),
    ):
        if count:
            ledger.blame(f"I3 {count} calls {text}")
    return [
        f"ok {counts[OK]:,}, cancelled {counts[GIVEN_UP]:,}, surely not run {counts[NOT_RUN]:,},"
        f" maybe run {counts[UNSURE]:,}, failed after running {counts[RAN]:,}",
        f"lost {lost}, ran twice {twice}, ran against their error {false}, misdelivered"
        f" {sum('I2' in text for text in ledger.broken)}",
        *(f"  {count:,} x {name}" for name, count in ledger.errors.most_common()),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("MINUTES", "1")))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    calls = options.calls or 10**9
    seconds = 3600.0 if options.calls else options.minutes * 60.0
    ledger = Ledger((options.calls or int(seconds * 120_000)) + 20_000)
    streams = Streams(ledger.blame, ledger.note_late)
    with tempfile.TemporaryDirectory() as folder:
        fleet = Fleet(Path(folder), ledger.size, 2)
        try:
            with asyncio.Runner(loop_factory=_loop()) as runner:
                report = runner.run(drive(calls, seconds, options.seed, fleet, ledger, streams))
        finally:
            for process in fleet.processes:
                if process is not None:
                    process.terminate()
                    process.wait()
        report += judge(ledger, fleet.runs(ledger.size)) + streams.judge(fleet.counts())
    print("\n".join(report))
    print("\n".join(f"BROKEN {text}" for text in ledger.broken) or "nothing lost, nothing twice")
    return 1 if ledger.broken else 0


def _loop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
