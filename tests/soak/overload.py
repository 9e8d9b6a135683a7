"""Offer a server three times what it can do, and look at what comes of it.

    python -m tests.soak.overload [--seconds 60] [--kinds burn,wait,thread] [--off]

For each kind of handler, burning 0.5 ms of the loop, waiting 20 ms for one of 20 places, or
sleeping 20 ms in one of 8 threads, a server in a process of its own is given

1. clients that wait for their answers, more and more of them: the peak;
2. a twentieth of the peak, from two processes that don't wait for answers (open loop): what
   latency is when the server is idle;
3. three times the peak from the same;
4. half of the peak: how soon all is well again.

Latency counts from the moment that a call was due, and so has the clients' own tick in it. Each result is a line of JSON with the
figures and the verdicts: goodput >= 90 % of the peak, p99 of accepted calls <= 3x idle p99,
99 % of refusals within 5 ms of their turn (the client's own waiting left out), and recovered
within 2 s. Run it when nothing else runs: the clients need a core of their own. `--off` shows
the same without `adaptive_limit`.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import uvloop

import fastrpc
from fastrpc.frame import FrameDecoder, encode_frame
from fastrpc.protocol import Option, encode_option
from fastrpc.transport import dial
from fastrpc.wire import Kind, Serializer, StatusCode

ROOT = Path(__file__).parents[2]
PLACES, THREADS = 20, 8
TIMES, IDLE = 3.0, 0.05
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


class Line(asyncio.Protocol):
    """A connection that sends calls when they are due, and looks at the clock for each answer.

    It has no more of a client than that: what the calls cost here can't be offered, and what
    answers wait for here is not the server's.
    """

    def __init__(self, kind: str) -> None:
        self.done: list[tuple[float, float]] = []
        self.refused: list[tuple[float, float]] = []
        self.others: dict[str, int] = {}
        self.open: dict[int, tuple[float, float]] = {}
        self.ready = asyncio.get_running_loop().create_future()
        self._name = f"Work.{kind}".encode()
        self._count = 0
        self._decoder = FrameDecoder()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say HELLO."""
        self.transport = cast("asyncio.Transport", transport)
        payload = encode_option(Option(agent="overload"), False)
        self.transport.write(
            encode_frame(Kind.HELLO, 0, serializer=Serializer.JSON, payload=payload)
        )

    def send(self, due: list[float], now: float) -> None:
        """Send calls that were due at these moments."""
        frames = []
        for moment in due:
            self._count += 1
            self.open[self._count] = moment, now
            frames.append(
                encode_frame(
                    Kind.CALL, self._count, serializer=Serializer.MSGPACK, name=self._name,
                    payload=b"\x90", time=int(TIMEOUT * 1000),
                )
            )  # fmt: skip
        self.transport.write(b"".join(frames))

    def data_received(self, data: bytes) -> None:
        """Note what became of calls."""
        now = time.perf_counter()
        for frame in self._decoder.feed(data):
            if frame.kind == Kind.HELLO:
                self.ready.set_result(None)
            elif frame.reply and (times := self.open.pop(frame.id, None)) is not None:
                due, sent = times
                if not frame.status:
                    self.done.append((now, now - due))
                elif frame.status == StatusCode.OVERLOADED:
                    self.refused.append((now, now - sent))
                else:
                    word = StatusCode(frame.status).name.lower()
                    self.others[word] = self.others.get(word, 0) + 1


async def offer(target: str, kind: str, rate: float, seconds: float) -> dict[str, Any]:
    """Make calls at a fixed rate, whatever becomes of them."""
    stay_on(0)
    lines = []
    for _ in range(CONNECTIONS):
        line = Line(kind)
        await dial(target, lambda line=line: line, timeout=10.0)  # type: ignore[misc]
        await line.ready
        lines.append(line)
    # Nobody begins while another still takes the core for its imports.
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    begun, count = time.perf_counter(), 0
    while (now := time.perf_counter()) < begun + seconds:
        due = []
        while count < (now - begun) * rate:
            due.append(begun + count / rate)
            count += 1
        for turn, line in enumerate(lines):
            if mine := due[turn :: len(lines)]:
                line.send(mine, now)
        await asyncio.sleep(TICK)
    # What is not answered by then is an answer that was lost.
    end = time.perf_counter() + TIMEOUT + 1.0
    while any(line.open for line in lines) and time.perf_counter() < end:
        await asyncio.sleep(TICK)
    others: dict[str, int] = {}
    for line in lines:
        line.transport.close()
        for word, times in [*line.others.items(), ("lost", len(line.open))]:
            if times:
                others[word] = others.get(word, 0) + times
    return {
        "offered": count, "others": others, "busy": time.process_time() / seconds,
        "done": [(at - begun, took) for line in lines for at, took in line.done],
        "refused": [(at - begun, took) for line in lines for at, took in line.refused],
    }  # fmt: skip


async def closed(target: str, kind: str, callers: int, seconds: float) -> list[float]:
    """Make calls one after the other, *callers* at once; return what each took."""
    took: list[float] = []
    cores = os.sched_getaffinity(0)
    stay_on(0)
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
    os.sched_setaffinity(0, cores)
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

    words = [f"{rate / PROCESSES}", f"{seconds}"]
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(process("--offer", target, kind, *words))
            for _ in range(PROCESSES)
        ]
        for client in clients:
            assert client.stdout is not None
            await client.stdout.readline()
        parts = [
            json.loads(out)
            for out, _ in await asyncio.gather(*(each.communicate(b"go\n") for each in clients))
        ]
    others: dict[str, int] = {}
    for part in parts:
        for name, count in part["others"].items():
            others[name] = others.get(name, 0) + count
    return {
        "offered": sum(part["offered"] for part in parts),
        "done": [each for part in parts for each in part["done"]],
        "refused": [each for part in parts for each in part["refused"]],
        "others": others,
        "busy": sum(part["busy"] for part in parts),
    }


async def measure(kind: str, seconds: float, is_on: bool) -> dict[str, Any]:
    """Put one kind of handler to the test."""
    brief = max(seconds / 20, 1.0)
    async with process("--serve", *([] if is_on else ["--off"])) as server:
        assert server.stdout is not None
        target = (await server.stdout.readline()).decode().strip()
        peak = 0.0
        for callers in (4, 8, 16, 32):
            peak = max(peak, len(await closed(target, kind, callers, brief)) / brief)
        calm = await offered(target, kind, IDLE * peak, brief * 3)
        over = await offered(target, kind, TIMES * peak, seconds)
        after = await offered(target, kind, 0.5 * peak, max(brief, 3.0))
    idle = [took for _, took in calm["done"]]
    steady = [took for at, took in over["done"] if at >= ONSET]
    refused = [took for _, took in over["refused"]]
    # Well again: all but one call in a hundred are answered in time.
    bad = [at for at, took in after["done"] if took * 1e3 > 3 * quantile(idle, 0.99)]
    bad += [at for at, _ in after["refused"]]
    lost = after["offered"] - len(after["done"]) - len(after["refused"])
    allowed = int(0.01 * after["offered"]) - lost
    recovered = sorted(bad)[-allowed - 1] if len(bad) > allowed >= 0 else 0.0
    if allowed < 0:
        recovered = float("inf")
    goodput = sum(at < seconds for at, _ in over["done"]) / seconds
    figures = {
        "kind": kind, "adaptive": is_on, "clients_busy": round(over["busy"], 2),
        "idle_p99_ms": quantile(idle, 0.99),
        "peak": round(peak, 1), "offered": round(over["offered"] / seconds, 1),
        "goodput": round(goodput, 1), "share_of_peak": round(goodput / peak, 3),
        "p50_ms": quantile(steady, 0.5), "p99_ms": quantile(steady, 0.99),
        "p99_with_onset_ms": quantile([took for _, took in over["done"]], 0.99),
        "refused": len(refused), "refused_p50_ms": quantile(refused, 0.5),
        "refused_p99_ms": quantile(refused, 0.99), "others": over["others"],
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
