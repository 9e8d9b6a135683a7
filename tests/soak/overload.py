"""Offer a server three times what it can do, and look at what comes of it.

    python -m tests.soak.overload [--seconds 60] [--kinds burn,wait,thread] [--off]

For each kind of handler, burning 0.5 ms of the loop, waiting 20 ms for one of 20 places, or
sleeping 20 ms in one of 8 threads, a server in a process of its own is given

1. a call at a time: idle latency;
2. clients that wait for their answers, more and more of them: the peak;
3. three times the peak, from two processes that don't wait for answers: open loop;
4. half of the peak: how soon all is well again.

Latency counts from the moment that a call was due. Each result is a line of JSON with the
figures and the verdicts: goodput >= 90 % of the peak, p99 of accepted calls <= 3x idle p99,
99 % of refusals within 5 ms of their turn (the client's own waiting left out), and recovered
within 2 s. Run it when nothing else runs: the clients need a core of their own. `--off` shows
the same without `adaptive_limit`.
"""

import argparse
import asyncio
import contextlib
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvloop

import fastrpc

ROOT = Path(__file__).parents[2]
PLACES, THREADS = 20, 8
TIMES = 3.0
PROCESSES = 2
CONNECTIONS = 2
TIMEOUT = 2.0
TICK = 0.001
#: Seconds of the open loop in which the server may find out what is going on.
ONSET = 1.0


class Work:
    """What the server does."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(PLACES)

    def burn(self) -> int:
        end = time.perf_counter() + 0.0005
        while time.perf_counter() < end:
            pass
        return 1

    async def wait(self) -> int:
        async with self._places:
            await asyncio.sleep(0.02)
        return 1

    @fastrpc.rpc(blocking=True)
    def thread(self) -> int:
        time.sleep(0.02)
        return 1


def stay_on(core: int) -> None:
    """Leave the other cores alone: what is measured is the server, not who gets its core."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core]})


async def serve(is_on: bool) -> None:
    """Be the server until standard input ends."""
    stay_on(-1)
    async with fastrpc.Server(adaptive_limit=is_on, threads=THREADS) as server:
        server.register(Work())
        await server.start("tcp://127.0.0.1:0")
        print(server.targets[0], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def quantile(times: list[float], share: float) -> float:
    """Return a quantile in milliseconds, 0 of nothing."""
    return round(sorted(times)[int(len(times) * share)] * 1e3, 3) if times else 0.0


async def offer(target: str, kind: str, rate: float, seconds: float) -> dict[str, Any]:
    """Make calls at a fixed rate, whatever becomes of them."""
    stay_on(0)
    done: list[tuple[float, float]] = []
    refused: list[float] = []
    others: dict[str, int] = {}
    waiting: set[asyncio.Future[Any]] = set()
    async with fastrpc.connect(target, timeout=TIMEOUT, connections=CONNECTIONS) as client:
        for _ in range(CONNECTIONS):
            with contextlib.suppress(fastrpc.FastRPCError):  # without the option it may be busy
                await client.call("fastrpc.health")
        begun = time.perf_counter()

        # No task for each: what the clients take is taken from what they can offer.
        def ended(due: float, sent: float, call: asyncio.Future[Any]) -> None:
            now, exc = time.perf_counter(), call.exception()
            waiting.discard(call)
            if exc is None:
                done.append((now - begun, now - due))
            elif isinstance(exc, fastrpc.Overloaded):
                refused.append(now - sent)
            else:
                others[type(exc).__name__] = others.get(type(exc).__name__, 0) + 1

        count = 0
        while (now := time.perf_counter() - begun) < seconds:
            while count < now * rate:
                call = asyncio.ensure_future(client.call(f"Work.{kind}"))
                waiting.add(call)
                due = begun + count / rate
                call.add_done_callback(functools.partial(ended, due, time.perf_counter()))
                count += 1
            await asyncio.sleep(TICK)
        lag = time.perf_counter() - begun - seconds
        if waiting:
            await asyncio.wait(waiting)
    return {
        "offered": count, "done": done, "refused": refused, "others": others, "lag": lag,
    }  # fmt: skip


async def closed(target: str, kind: str, callers: int, seconds: float) -> list[float]:
    """Make calls one after the other, *callers* at once; return what each took."""
    took: list[float] = []
    async with fastrpc.connect(target, timeout=30.0) as client:
        end = time.perf_counter() + seconds

        async def caller() -> None:
            while (begun := time.perf_counter()) < end:
                try:
                    await client.call(f"Work.{kind}")
                except fastrpc.Overloaded as exc:
                    await asyncio.sleep(exc.retry_after or 0.0)
                else:
                    took.append(time.perf_counter() - begun)

        await asyncio.gather(*(caller() for _ in range(callers)))
    return took


@contextlib.asynccontextmanager
async def process(*args: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run this module in a process of its own."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.soak.overload", *args, cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=2**30,
    )  # fmt: skip
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.kill()
        await started.wait()


async def offered(target: str, kind: str, rate: float, seconds: float) -> dict[str, Any]:
    """Offer calls from several processes; return what they saw, put together."""

    async def one() -> dict[str, Any]:
        words = [f"{rate / PROCESSES}", f"{seconds}"]
        async with process("--offer", target, kind, *words) as client:
            out, _ = await client.communicate(b"")
            seen: dict[str, Any] = json.loads(out)
            return seen

    parts = await asyncio.gather(*(one() for _ in range(PROCESSES)))
    others: dict[str, int] = {}
    for part in parts:
        for name, count in part["others"].items():
            others[name] = others.get(name, 0) + count
    return {
        "offered": sum(part["offered"] for part in parts),
        "done": [each for part in parts for each in part["done"]],
        "refused": [each for part in parts for each in part["refused"]],
        "others": others,
    }


async def measure(kind: str, seconds: float, is_on: bool) -> dict[str, Any]:
    """Put one kind of handler to the test."""
    brief = max(seconds / 20, 1.0)
    async with process("--serve", *([] if is_on else ["--off"])) as server:
        assert server.stdout is not None
        target = (await server.stdout.readline()).decode().strip()
        idle = await closed(target, kind, 1, brief * 2)
        peak = 0.0
        for callers in (4, 8, 16, 32):
            peak = max(peak, len(await closed(target, kind, callers, brief)) / brief)
        over = await offered(target, kind, TIMES * peak, seconds)
        after = await offered(target, kind, 0.5 * peak, max(brief, 3.0))
    steady = [took for at, took in over["done"] if at >= ONSET]
    late = [at for at, took in after["done"] if took * 1e3 > 3 * quantile(idle, 0.99)]
    allowed = 0.01 * len(after["done"])
    recovered = sorted(late)[-int(allowed) - 1] if len(late) > allowed else 0.0
    goodput = sum(at < seconds for at, _ in over["done"]) / seconds
    figures = {
        "kind": kind, "adaptive": is_on, "idle_p99_ms": quantile(idle, 0.99),
        "peak": round(peak, 1), "offered": round(over["offered"] / seconds, 1),
        "goodput": round(goodput, 1), "share_of_peak": round(goodput / peak, 3),
        "p50_ms": quantile(steady, 0.5), "p99_ms": quantile(steady, 0.99),
        "p99_with_onset_ms": quantile([took for _, took in over["done"]], 0.99),
        "refused": len(over["refused"]), "refused_p50_ms": quantile(over["refused"], 0.5),
        "refused_p99_ms": quantile(over["refused"], 0.99), "others": over["others"],
        "recovered_s": round(recovered, 2), "refused_after": len(after["refused"]),
        "others_after": after["others"],
    }  # fmt: skip
    verdicts = {
        "goodput": goodput >= 0.9 * peak,
        "p99": figures["p99_with_onset_ms"] <= 3 * figures["idle_p99_ms"],
        "reject": figures["refused_p99_ms"] <= 5.0,
        "recovered": recovered <= 2.0,
    }
    return {**figures, "verdicts": verdicts}


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kinds", default="burn,wait,thread")
    parser.add_argument("--off", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--offer", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        uvloop.run(serve(not args.off))
    elif args.offer:
        target, kind, rate, seconds = args.offer
        print(json.dumps(uvloop.run(offer(target, kind, float(rate), float(seconds)))))
    else:
        for kind in args.kinds.split(","):
            print(json.dumps(uvloop.run(measure(kind, args.seconds, not args.off))), flush=True)


if __name__ == "__main__":
    main()
