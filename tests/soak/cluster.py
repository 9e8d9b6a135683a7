"""Chaos in a cluster: instances are killed, or restarted in turn; nothing may be lost.

    python -m tests.soak.cluster kill --rounds 30 --every 10 --calls 5000000
    python -m tests.soak.cluster roll --rounds 20

Three instances announce themselves at a registry server that is a process of its own; one
client finds them there. `kill` ends one of them with SIGKILL every so many seconds and
starts another after a while; `roll` restarts them in turn with SIGTERM, each as often as there
are rounds.

Checked, beside I1, I2, I4 and I5 of `soak`:

* I3 no call that must not run twice ran twice, and none ran whose error says that it did not;
* no call that may run twice has failed; and with `roll` none at all;
* I6 afterwards calls and tasks of the client are back where they were;
* I8 what must run once ran as often as it was answered, and at most as often as that and what
  nobody knows of.
"""

import argparse
import asyncio
import collections
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import uvloop

import fastrpc
from tests.soak.served import proof
from tests.soak.soak import FATES, GIVEN_UP, NONE, NOT_RUN, OK, RAN, UNSURE, Ledger

TIMEOUT = 5.0
CANCELLED = 0.05
SLOW = 0.01
INSTANCES = 3


class Machines:
    """The processes: a registry, and the instances."""

    def __init__(self, folder: Path, size: int, leave_wait: float) -> None:
        self.runs = folder / "runs"
        with self.runs.open("wb") as file:
            file.truncate(size)
        self._leave_wait = leave_wait
        self.registry = self._start_registry(folder)
        self.members: list[subprocess.Popen[bytes] | None] = [None] * INSTANCES
        self.ended = 0

    def _start_registry(self, folder: Path) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "fastrpc", "registry", "--bind", "tcp://127.0.0.1:0"]
        command += ["--data", str(folder / "registry.db"), "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        (target,) = json.loads(process.stdout.readline())["targets"]
        self.target = "registry" + target.removeprefix("tcp")
        return process

    def start(self, number: int) -> None:
        """Start an instance, and wait until it is listed."""
        command = [sys.executable, "-m", "tests.soak.member", self.target, str(self.runs)]
        command += [str(number), str(self._leave_wait)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        self.members[number] = process

    def end(self, number: int, how: signal.Signals) -> None:
        """End an instance and wait for it."""
        process = self.members[number]
        assert process is not None
        process.send_signal(how)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        self.members[number] = None
        self.ended += 1

    def close(self) -> None:
        """End all."""
        for process in (*self.members, self.registry):
            if process is not None:
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()


async def caller(
    client: fastrpc.Client,
    ledger: Ledger,
    rng: random.Random,
    stop: asyncio.Event,
    pause: float,
) -> None:
    """Make one call after the other until told to stop; those with an odd key may run twice."""
    loop = asyncio.get_running_loop()
    while not stop.is_set() and ledger.next_key < ledger.size:
        key, nonce, dice = ledger.begin(), rng.getrandbits(40), rng.random()
        load = bytes(100_000) if dice > 0.9995 else bytes(int(dice * 100))
        started = time.monotonic()
        cancel: asyncio.TimerHandle | None = None
        try:
            if key % 2:
                answer = client.call("Member.get", key, nonce, load)
            elif dice < SLOW:
                answer = client.call("Member.slow_put", key, nonce, dice)
            else:
                answer = client.call("Member.put", key, nonce, load)
            if rng.random() < CANCELLED:
                future = asyncio.ensure_future(answer)
                cancel, answer = loop.call_later(rng.random() * 0.01, future.cancel), future
            got = await answer
        except asyncio.CancelledError:
            ledger.end(key, GIVEN_UP)
        except fastrpc.FastRPCError as exc:
            ledger.end(key, FATES[exc.ran])
            ledger.errors[f"{type(exc).__name__} ran={exc.ran}" + " (get)" * (key % 2)] += 1
            ledger.note_late(f"call {key}", time.monotonic() - started - TIMEOUT)
            if key % 2:
                ledger.blame(f"call {key} may run twice, and failed: {type(exc).__name__}: {exc}")
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
        if pause:
            await asyncio.sleep(pause)


async def kill(machines: Machines, options: argparse.Namespace, rng: random.Random) -> None:
    """Kill one every so many seconds, and start another after a while."""
    for _ in range(options.rounds):
        await asyncio.sleep(options.every - options.away)
        number = rng.randrange(INSTANCES)
        await asyncio.to_thread(machines.end, number, signal.SIGKILL)
        await asyncio.sleep(options.away)
        await asyncio.to_thread(machines.start, number)


async def roll(machines: Machines, options: argparse.Namespace, rng: random.Random) -> None:
    """Restart all in turn, as often as there are rounds."""
    for _ in range(options.rounds):
        for number in range(INSTANCES):
            await asyncio.to_thread(machines.end, number, signal.SIGTERM)
            await asyncio.to_thread(machines.start, number)


SCENES = {"kill": kill, "roll": roll}


async def drive(machines: Machines, ledger: Ledger, options: argparse.Namespace) -> list[str]:
    """Run a scene under load, and return the lines of a report."""
    rng = random.Random(options.seed)
    for number in range(INSTANCES):
        await asyncio.to_thread(machines.start, number)
    tasks = len(asyncio.all_tasks())
    stop = asyncio.Event()
    client = fastrpc.connect(f"{machines.target}/Member", timeout=TIMEOUT)
    async with client:
        await client.describe()
        watching = asyncio.create_task(ledger.starved.watch())
        callers = [
            asyncio.create_task(
                caller(client, ledger, random.Random(rng.random()), stop, options.pause)
            )
            for _ in range(options.callers)
        ]
        began = time.monotonic()
        await SCENES[options.scene](machines, options, rng)
        while ledger.ended < options.calls:
            await asyncio.sleep(0.5)
        stop.set()
        _, stuck = await asyncio.wait(callers, timeout=TIMEOUT + 5.0)
        if stuck:
            ledger.blame(f"I1 {len(stuck)} callers never ended")
        spent = time.monotonic() - began
        watching.cancel()
    await asyncio.sleep(0.2)
    if (left := len(asyncio.all_tasks())) > tasks:
        ledger.blame(f"I6 tasks: {tasks} before, {left} after")
    return [
        f"{options.scene}: {ledger.ended:,} calls in {spent:.0f} s ({ledger.ended / spent:,.0f}/s),"
        f" seed {options.seed}; instances ended: {machines.ended}",
        f"latest error {ledger.latest * 1e3:+.0f} ms from its deadline",
    ]


def judge(ledger: Ledger, runs: bytes, scene: str) -> list[str]:
    """Compare what callers were told with what ran; return the counts."""
    counts: collections.Counter[int] = collections.Counter(ledger.fates[: ledger.next_key])
    if counts[NONE]:
        ledger.blame(f"I1 {counts[NONE]} calls have no end")
    twice = false = missing = puts = answered = unsure = 0
    for key, ran in enumerate(runs[: ledger.next_key]):
        fate = ledger.fates[key]
        false += ran > 0 and fate == NOT_RUN
        missing += ran == 0 and fate in (OK, RAN)
        if not key % 2:
            twice += ran > 1
            puts += ran
            answered += fate in (OK, RAN)
            unsure += fate in (UNSURE, GIVEN_UP)
    for count, text in (
        (twice, "must run once and ran twice"),
        (false, "ran though their error says no"),
        (missing, "did not run though they were answered"),
    ):
        if count:
            ledger.blame(f"I3 {count} calls {text}")
    if not answered <= puts <= answered + unsure:
        ledger.blame(f"I8 {puts} runs, {answered} answered, {unsure} unsure")
    failed = counts[NOT_RUN] + counts[UNSURE] + counts[RAN]
    if scene == "roll" and failed:
        ledger.blame(f"{failed} calls have failed")
    return [
        f"ok {counts[OK]:,}, cancelled {counts[GIVEN_UP]:,}, surely not run {counts[NOT_RUN]:,},"
        f" maybe run {counts[UNSURE]:,}, failed after running {counts[RAN]:,}",
        f"ran twice {twice}, ran against their error {false}, runs of what runs once {puts:,}"
        f" of {answered:,} answered and {unsure:,} unsure",
        *(f"  {count:,} x {name}" for name, count in ledger.errors.most_common()),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scene", choices=sorted(SCENES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between kills")
    parser.add_argument("--away", type=float, default=3.0, help="seconds until there is another")
    parser.add_argument("--calls", type=int, default=0, help="go on until so many have ended")
    parser.add_argument("--callers", type=int, default=128)
    parser.add_argument("--pause", type=float, default=0.0, help="of each caller between calls")
    parser.add_argument("--leave-wait", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    size = max(options.calls * 2, int(options.rounds * max(options.every, 30.0) * 40_000), 10**6)
    ledger = Ledger(size)
    with tempfile.TemporaryDirectory() as folder:
        machines = Machines(Path(folder), size, options.leave_wait)
        try:
            report = uvloop.run(drive(machines, ledger, options))
        finally:
            machines.close()
        report += judge(ledger, machines.runs.read_bytes(), options.scene)
    print("\n".join(report))
    print("\n".join(f"BROKEN {text}" for text in ledger.broken) or "nothing lost, nothing twice")
    return 1 if ledger.broken else 0


if __name__ == "__main__":
    sys.exit(main())
