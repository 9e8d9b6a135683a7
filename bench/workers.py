"""Share one port among processes in three ways, and see how evenly, and what a reload loses.

    python -m bench.workers [--workers 4] [--connections 40] [--rounds 5] [--seconds 2]

The ways:

* reuseport: each process has a socket of its own, bound with SO_REUSEPORT; the kernel gives
  each connection to one of them by a hash of its addresses;
* inherited: all accept on one socket that was bound before the fork, and whoever is first
  takes what is there;
* turns: the same, but whoever has fewest connections goes first. That is what
  `fastrpc.run(workers=)` does.

Three things are told of each. Spread: how many of the connections of one process each worker
got, when they came all at once and when they came one by one; told is the fullest worker's
share over a fair one (1.00 is even). Load: calls per second over those that came at once, and
how the calls spread. Lost: workers are replaced, one after the other, while new connections
come all the time, each with one HTTP request, and a handler holds the loop up for 20 ms now and
then, so that some wait to be accepted; told is how many got no answer.

With SO_REUSEPORT a connection that waits in the queue of a socket is reset when that socket
is closed, unless net.ipv4.tcp_migrate_req is 1; the program tells how it is set.
"""

import argparse
import asyncio
import os
import signal
import socket
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import uvloop

import fastrpc
from fastrpc.server.workers.table import SeatState, Turns, WorkerTable
from fastrpc.transport import Bound, bind_shared, parse_target
from fastrpc.transport.bind import SocketFile

WAYS: Final = ("reuseport", "inherited", "turns")
HOST: Final = "127.0.0.1"
STALL: Final = 0.02
_MIGRATE: Final = Path("/proc/sys/net/ipv4/tcp_migrate_req")


class AnyTurn:
    """Lets whoever is first accept."""

    def is_mine(self, on_the_way: int) -> bool:
        return True

    def took(self) -> None:
        pass


class Work:
    """Tells who answers."""

    def __init__(self, seat: int) -> None:
        self._seat = seat

    def seat(self) -> int:
        return self._seat


class Crew:
    """Processes that share one port in one of the ways."""

    def __init__(self, way: str, workers: int, *, stalls: bool = False) -> None:
        self._way = way
        self._stalls = stalls
        self._table = WorkerTable(workers * 2)
        self._pids: dict[int, int] = {}
        if way == "reuseport":
            with _reusing(0) as probe:  # keeps the port until the first worker has it
                self.port = probe.getsockname()[1]
                self._shared = None
                for seat in range(workers):
                    self.start(seat)
        else:
            self._shared = bind_shared(f"tcp://{HOST}:0")
            self.port = self._shared.sockets[0].getsockname()[1]
            for seat in range(workers):
                self.start(seat)

    @property
    def target(self) -> str:
        return f"tcp://{HOST}:{self.port}"

    def start(self, seat: int) -> None:
        """Start the worker of a seat, and wait until it serves."""
        self._table.enter(seat, place=seat, number=seat, restarts=0)
        pipe, end = os.pipe()
        pid = os.fork()
        if not pid:
            code = 1
            try:
                os.close(pipe)
                uvloop.run(self._serve(seat, end))
                code = 0
            finally:
                os._exit(code)
        os.close(end)
        if os.read(pipe, 1) != b"!":
            raise RuntimeError("a worker did not start")
        os.close(pipe)
        self._table.set_state(seat, SeatState.SERVING)
        self._pids[seat] = pid

    def stop(self, seat: int) -> None:
        """Drain the worker of a seat, and wait for its end."""
        self._table.set_state(seat, SeatState.DRAINING)
        pid = self._pids.pop(seat)
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        self._table.set_state(seat, SeatState.FREE)

    def replace_all(self) -> None:
        """Replace each worker by one that serves already, as a rolling reload does."""
        for old in list(self._pids):
            free = next(seat for seat in range(len(self._pids) * 2) if seat not in self._pids)
            self.start(free)
            self.stop(old)

    def close(self) -> None:
        for seat in list(self._pids):
            self.stop(seat)
        if self._shared is not None:
            self._shared.close()
        self._table.close()

    async def _serve(self, seat: int, ready: int) -> None:
        server = fastrpc.Server(doors=["fastrpc", "health"])
        server.register(Work(seat))
        admission = server.hall.admission
        bound, turns = self._shared, AnyTurn()
        if bound is None:
            sock = _reusing(self.port)
            sock.listen(1024)
            bound = Bound(parse_target(self.target), (sock,), SocketFile())
        if self._way == "turns":
            turns = Turns(self._table, seat, lambda: len(admission))  # type: ignore[assignment]
        server._entrances.inherit([bound], turns)
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await server.start(self.target)
        os.write(ready, b"!")
        while self._stalls and not stop.is_set():
            await asyncio.sleep(STALL / 4)
            time.sleep(STALL)  # noqa: ASYNC251 - a handler that computes
        await stop.wait()
        server._entrances.stop_accepting()
        for _ in range(25):
            await asyncio.sleep(0.01)
            if not admission.arriving:
                break
        await server.aclose(1.0)


def _reusing(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((HOST, port))
    return sock


def share_of(counts: Counter[int], workers: int) -> float:
    """Return the fullest worker's share over a fair one."""
    return max(counts.values()) * workers / counts.total()


async def spread(
    target: str, workers: int, connections: int, seconds: float
) -> tuple[float, float, float, float]:
    """Return how evenly connections came in at once, one by one; calls, and how evenly they."""
    async with AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(fastrpc.connect(target)) for _ in range(connections)
        ]
        seats = await asyncio.gather(*(client.call("Work.seat") for client in made))
        at_once = share_of(Counter(seats), workers)
        calls: Counter[int] = Counter()
        end = time.perf_counter() + seconds

        async def go_on(client: fastrpc.Client) -> None:
            while time.perf_counter() < end:
                calls[await client.call("Work.seat")] += 1

        await asyncio.gather(*(go_on(client) for client in made for _ in range(4)))
    async with AsyncExitStack() as stack:
        counts: Counter[int] = Counter()
        for _ in range(connections):
            client = await stack.enter_async_context(fastrpc.connect(target))
            counts[await client.call("Work.seat")] += 1
    return at_once, share_of(counts, workers), calls.total() / seconds, share_of(calls, workers)


async def lose(crew: Crew, at_once: int) -> tuple[int, int]:
    """Replace all workers while connections come; return how many came, and were not answered."""
    asked = lost = 0
    is_over = False

    async def go_on() -> None:
        nonlocal asked, lost
        while not is_over:
            asked += 1
            try:
                reader, writer = await asyncio.open_connection(HOST, crew.port)
                writer.write(
                    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                )
                lost += not (await reader.read()).startswith(b"HTTP/1.1 200")
                writer.close()
            except OSError:
                lost += 1

    going = [asyncio.ensure_future(go_on()) for _ in range(at_once)]
    await asyncio.sleep(0.2)
    await asyncio.to_thread(crew.replace_all)
    is_over = True
    await asyncio.gather(*going)
    return asked, lost


def measure(way: str, args: argparse.Namespace) -> tuple[float, float, float, float, int, int]:
    crew = Crew(way, args.workers)
    try:
        seen = uvloop.run(spread(crew.target, args.workers, args.connections, args.seconds))
    finally:
        crew.close()
    crew = Crew(way, args.workers, stalls=True)
    try:
        asked, lost = uvloop.run(lose(crew, args.at_once))
    finally:
        crew.close()
    return (*seen, asked, lost)


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--connections", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--at-once", type=int, default=64, help="connections during a reload")
    args = parser.parse_args(words)
    migrate = _MIGRATE.read_text().strip() if _MIGRATE.exists() else "not there"
    print(f"load {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores, tcp_migrate_req {migrate}")
    print(f"{args.workers} workers, {args.connections} connections, medians (least to most)")
    rounds: dict[str, list[tuple[float, float, float, float, int, int]]] = {w: [] for w in WAYS}
    for _ in range(args.rounds):
        for way in WAYS:
            rounds[way].append(measure(way, args))
    for way, seen in rounds.items():
        at_once, one_by_one, rate, calls, asked, lost = zip(*seen, strict=True)
        print(
            f"{way:>10}: fullest at once {_told(at_once)}, one by one {_told(one_by_one)}; "
            f"{statistics.median(rate):,.0f} calls/s, fullest {_told(calls)}; "
            f"lost {sum(lost)} of {sum(asked):,}"
        )


def _told(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


if __name__ == "__main__":
    main(sys.argv[1:])
