"""Measure what many servers as one cost, and how well they bear one that is ill.

    python -m bench.cluster [--rounds 5] [--seconds 5]
    python -m bench.cluster --only cost,event,slow,errors,all_bad,down,herd

One process holds the servers and one the client, on a core each (`cost`: both on one).
Ratios come from one run; medians are told, with the least and the greatest.

* cost: unary calls through discovery against direct ones, one at a time and 256 in
  flight: fewer calls a second by which factor.
* event: a client of 1,000 instances is told of one that changed, or of all of them anew: how
  long until the balancer knows.
* slow: ten instances of 5 ms, one of which takes 50; 500 calls a second, open loop. p99
  against that without the slow one, for two choices and for round robin.
* errors: five instances, one answers errors in 1 ms: its share of the calls after 3 s.
* all_bad: all five do: calls a second that still are answered.
* down: one instance, at 1,000 calls a second; it is down for `--down` seconds (60): what was
  sent in that time, and how soon its load is back.
* herd: 1,000 clients of one server that restarts: when the last is back.
"""

import argparse
import asyncio
import collections
import dataclasses
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

import uvloop

import fastrpc
from bench.compare.load import percentile
from bench.idle import Part, free_port
from bench.pair import Pair
from bench.twins import open_twin
from fastrpc.cluster import Change, ClusterOptions, Instance, Listing, Put
from fastrpc.cluster.balancers import BALANCERS
from fastrpc.cluster.choose import balancer_for
from fastrpc.cluster.client import ClusterClient
from fastrpc.cluster.fleet import Fleet
from fastrpc.cluster.member import Member
from fastrpc.cluster.roll import Roll

SECONDS: Final = {"slow": 0.05, "well": 0.005}
NAME: Final = "bench.cluster"


class Work:
    """What is called."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.how = "well"
        self.calls = 0

    def echo(self, value):  # type: ignore[no-untyped-def]  # untyped on purpose
        """Return *value*."""
        return value

    async def work(self) -> int:
        """Take the time it takes here, or fail."""
        self.calls += 1
        if self.how == "bad":
            await asyncio.sleep(0.001)
            raise RuntimeError("ill")
        await asyncio.sleep(SECONDS[self.how])
        return self.number

    def quick(self) -> int:
        """Return the number at once."""
        self.calls += 1
        return self.number

    def set(self, how: str) -> int:
        """Behave so from now on, and forget what was counted."""
        self.how, calls, self.calls = how, self.calls, 0
        return calls


async def serve(*ports: str) -> None:
    """Serve one instance a port."""
    for number, port in enumerate(ports):
        server = fastrpc.Server(max_per_host=2000, max_pending=2000)
        server.register(Work(number))
        await server.start(f"tcp://127.0.0.1:{port}")
    print("up", flush=True)
    await asyncio.Event().wait()


def static(ports: list[int]) -> str:
    """Return the target of a static list."""
    return "static:" + ",".join(f"tcp://127.0.0.1:{port}" for port in ports)


async def told(ports: list[int], how: dict[int, str]) -> None:
    """Let instances behave."""
    for number, port in enumerate(ports):
        async with fastrpc.connect(f"tcp://127.0.0.1:{port}") as client:
            await client.call("Work.set", how.get(number, "well"))


async def rate(call: Callable[..., Any], in_flight: int, seconds: float) -> float:
    """Return calls a second."""
    now = time.perf_counter

    async def worker(end: float) -> int:
        done = 0
        while now() < end:
            await call("Work.echo", 5)
            done += 1
        return done

    start = now()
    counts = await asyncio.gather(*[worker(start + seconds) for _ in range(in_flight)])
    return sum(counts) / (now() - start)


async def open_loop(
    client: fastrpc.Client, method: str, per_second: float, seconds: float
) -> tuple[list[float], collections.Counter[Any]]:
    """Make calls at a fixed rate; return how long each took, and what came of them."""
    loop = asyncio.get_running_loop()
    took: list[float] = []
    ends: collections.Counter[Any] = collections.Counter()

    async def one(due: float) -> None:
        try:
            ends[await client.call(method)] += 1
        except fastrpc.FastRPCError as error:
            ends[type(error).__name__] += 1
        took.append(loop.time() - due)

    start, running = loop.time(), set()
    for number in range(int(per_second * seconds)):
        due = start + number / per_second
        if (left := due - loop.time()) > 0:
            await asyncio.sleep(left)
        task = asyncio.create_task(one(due))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return took, ends


def spread(values: list[float]) -> str:
    """Return the median with the least and the greatest."""
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


async def cost(ports: list[int], seconds: float, rounds: int) -> dict[str, Any]:
    """Compare calls through discovery with direct ones."""
    found: dict[str, list[float]] = {"1": [], "256": []}
    async with (
        fastrpc.connect(f"tcp://127.0.0.1:{ports[0]}") as direct,
        fastrpc.connect(static(ports[:1])) as one,
    ):
        for _ in range(rounds):
            for in_flight in (1, 256):
                plain = await rate(direct.call, in_flight, seconds / 5)
                through = await rate(one.call, in_flight, seconds / 5)
                found[str(in_flight)].append(plain / through)
    return {f"cost, {in_flight} in flight": spread(all_) for in_flight, all_ in found.items()}


class Connected:
    """A link that is up."""

    is_dialling = is_over = False
    ended = 1

    def begin(self) -> None:
        """Have nothing to do."""

    hurry = retire = begin


def applied(roll: Roll, fleet: Fleet, change: Change) -> float:
    """Return the milliseconds until the balancer knows of a change."""
    started = time.perf_counter()
    roll.take(change, 1.0)
    fleet.take(roll.instances, 1.0)
    fleet.arrange(1.0)
    return (time.perf_counter() - started) * 1e3


async def event(rounds: int, count: int = 1000) -> dict[str, Any]:
    """Time how long a watch event takes until the balancer knows of it."""
    instances = [
        Instance(id=f"i{number}", addresses=(f"tcp://10.0.{number // 250}.{number % 250}:7000",))
        for number in range(count)
    ]
    found: dict[str, list[float]] = {}
    for balance in sorted(BALANCERS):
        options = ClusterOptions(balance=balance)
        loop = asyncio.get_running_loop()

        def make(member: Member) -> list[Any]:
            member.lanes.append(Pair(open_twin("compiled")).client)
            return [Connected()]

        fleet = Fleet(options, balancer_for(options), [], loop, make, lambda: None, 1)
        roll = Roll()

        applied(roll, fleet, Listing(tuple(instances)))
        while any(not member.links for member in fleet.members.values()):
            await asyncio.sleep(0)
            fleet.changed()
        for number in range(rounds * 4):
            changed = dataclasses.replace(instances[number], weight=2.0)
            found.setdefault(f"event, {balance}: one changed, ms", []).append(
                applied(roll, fleet, Put(changed))
            )
            again = Listing(tuple(instances))
            found.setdefault(f"event, {balance}: all listed, ms", []).append(
                applied(roll, fleet, again)
            )
        fleet.close()
    return {name: spread(values) for name, values in found.items()}


async def slow(ports: list[int], seconds: float, rounds: int) -> dict[str, Any]:
    """Compare p99 with a slow instance with that without."""
    report = {}
    for balance in ("two_choices", "round_robin"):
        ratios = []
        for _ in range(rounds):
            p99 = []
            for how in ({}, {3: "slow"}):
                await told(ports, how)
                async with fastrpc.connect(static(ports), balance=balance) as client:
                    await open_loop(client, "Work.work", 500, 1.0)
                    took, _ = await open_loop(client, "Work.work", 500, seconds)
                    p99.append(percentile(sorted(took), 0.99))
            ratios.append(p99[1] / p99[0])
        report[f"slow, {balance}: p99 with / without"] = spread(ratios)
    return report


async def errors(ports: list[int], seconds: float, rounds: int) -> dict[str, Any]:
    """Count the share of an instance that answers errors."""
    shares = []
    for _ in range(rounds):
        await told(ports[:5], {2: "bad"})
        async with fastrpc.connect(static(ports[:5])) as client:
            await open_loop(client, "Work.work", 500, 3.0)
            async with fastrpc.connect(f"tcp://127.0.0.1:{ports[2]}") as direct:
                await direct.call("Work.set", "bad")
                await open_loop(client, "Work.work", 500, seconds)
                bad = await direct.call("Work.set", "bad")
            shares.append(bad / (500 * seconds))
    return {"errors: share of the bad one": spread(shares)}


async def all_bad(ports: list[int], seconds: float, rounds: int) -> dict[str, Any]:
    """Count what is answered when all fail."""
    await told(ports[:5], dict.fromkeys(range(5), "bad"))
    async with fastrpc.connect(static(ports[:5])) as client:
        _, ends = await open_loop(client, "Work.work", 500, max(seconds, 5.0))
    await told(ports[:5], {})
    return {"all bad: how 500 calls a second ended": dict(ends)}


async def down(seconds: float) -> dict[str, Any]:
    """Count attempts while a server is down that took calls until then, and again after."""
    port = free_port()
    with ExitStack() as first:
        server = Part(first, 1, "serve", port, module=NAME)
        client = fastrpc.connect(static([port]), timeout=1.0)
        assert isinstance(client, ClusterClient)
        async with client:
            await open_loop(client, "Work.quick", 1000, 5.0)
            server.stop()
            links = client.links()
            dialled = sum(link.attempts for link in links)
            sent = sum(each.calls for each in client.fleet.members.values())
            began = time.monotonic()
            _, ends = await open_loop(client, "Work.quick", 1000, seconds)
            asked = sum(link.attempts for link in links) - dialled
            attempts = sum(each.calls for each in client.fleet.members.values()) - sent
            Part(first, 1, "serve", port, module=NAME)
            back = time.monotonic()
            while True:
                _, after = await open_loop(client, "Work.quick", 1000, 0.1)
                if set(after) == {0}:
                    break
            recovered = time.monotonic() - back
    return {
        f"down {seconds:g} s": {
            "calls": int(1000 * seconds),
            "ends": dict(ends),
            "attempts to connect": asked,
            "calls sent": attempts,
            "well again after, s": round(recovered, 2),
            "took, s": round(back - began, 1),
        }
    }


async def herd(count: int) -> dict[str, Any]:
    """Restart a server that has very many clients."""
    port = free_port()
    with ExitStack() as running:
        server = Part(running, 1, "serve", port, module=NAME)
        clients = [fastrpc.connect(static([port]), connect_timeout=10.0) for _ in range(count)]
        try:
            for start in range(0, count, 100):
                await asyncio.gather(
                    *[each.call("Work.quick") for each in clients[start : start + 100]]
                )
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            await asyncio.sleep(0.5)
            Part(running, 1, "serve", port, module=NAME)
            began = time.monotonic()
            ends: collections.Counter[str] = collections.Counter()
            took = []

            async def back(client: fastrpc.Client) -> None:
                while True:
                    try:
                        await client.call("Work.quick")
                        break
                    except fastrpc.FastRPCError as error:
                        ends[type(error).__name__] += 1
                        await asyncio.sleep(0.05)
                took.append(time.monotonic() - began)

            await asyncio.gather(*[back(client) for client in clients])
        finally:
            await asyncio.gather(*[client.aclose() for client in clients])
    return {
        f"herd of {count}": {
            "back": len(took),
            "median, s": round(statistics.median(took), 2),
            "last, s": round(max(took), 2),
            "errors on the way": dict(ends),
        }
    }


ON_SERVERS: Final = {"cost": cost, "slow": slow, "errors": errors, "all_bad": all_bad}


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run what is wanted."""
    report: dict[str, Any] = {"load average at the start": round(os.getloadavg()[0], 2)}
    with ExitStack() as running:
        ports = [free_port() for _ in range(10)]
        core = 0 if options.only == ["cost"] else 1
        Part(running, core, "serve", *ports, module=NAME)
        for name in options.only:
            if name in ON_SERVERS:
                report |= await ON_SERVERS[name](ports, options.seconds, options.rounds)
    if "event" in options.only:
        report |= await event(options.rounds)
    if "down" in options.only:
        report |= await down(options.down)
    if "herd" in options.only:
        report |= await herd(options.clients)
    return report


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        uvloop.run(serve(*sys.argv[2:]))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="cost,event,slow,errors,all_bad,down,herd")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--down", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=1000)
    options = parser.parse_args()
    options.only = options.only.split(",")
    os.sched_setaffinity(0, {0})
    print(json.dumps(uvloop.run(measure(options)), indent=2))


if __name__ == "__main__":
    main()
