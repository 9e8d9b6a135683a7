"""Measure what the doors of a port cost: WebSocket, TLS, and neighbours who come by others.

    python -m bench.websocket [--rounds 7] [--seconds 1] [--only websocket,tls,beside] [--json]

Plain calls of `small`, 256 in flight, one connection; servers and the client that is
measured share the first core. What is compared is measured in turn, round by round, in one
run; medians are told, with the least and the greatest.

* websocket: binary calls over `ws://` against picows' echo with msgpack, the fastest of the
  WebSocket libraries (it runs in the environment of `bench.compare`).
* tls: calls over `tls://` against calls over `tcp://`, at the same server.
* beside: calls over `tcp://` at a server with every door and a certificate, while clients of
  HTTP, WebSocket and TLS are served at the same port, against a server with the binary door
  alone that nobody else calls. The neighbours live on the second core and make `--pace` calls
  a second each: what they cost is not to be seen here, but that they are there.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, Final

import trustme
import uvloop

import fastrpc
from bench.compare import environment
from bench.compare.load import Clock, load_async
from bench.compare.run import call_all, serving
from bench.idle import Echo, Part, free_port
from bench.values import SMALL

IN_FLIGHT: Final = 256
HOST: Final = "127.0.0.1"
PACE: Final = 10.0  # calls a second of each neighbour


async def serve(port: str, door: str, certificate: str) -> None:
    """Serve `Echo`: by the binary door alone, or by all of them and with a certificate."""
    server = fastrpc.Server()
    server.register(Echo())
    target = f"tcp://{HOST}:{port}"
    if door == "alone":
        await server.start(target, doors=("fastrpc",))
    else:
        await server.start(target, tls=fastrpc.TlsOptions(cert=certificate), plain="allow")
    print("up", flush=True)
    await server.serve_forever()


async def client(authority: str, *targets: str) -> None:
    """Answer lines `NUMBER SECONDS` with calls per second to that target."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        calls = []
        for target in targets:
            caller = await stack.enter_async_context(connected(target, authority))
            calls.append(caller.call)
        print("ready", flush=True)
        while words := (await loop.run_in_executor(None, sys.stdin.readline)).split():
            call, seconds = calls[int(words[0])], float(words[1])

            async def echo(value: Any, call: Any = call) -> Any:
                return await call("Echo.echo", value)

            figures = await load_async(echo, SMALL, IN_FLIGHT, seconds, Clock())
            print(figures.rate, flush=True)


def connected(target: str, authority: str) -> fastrpc.Client:
    """Return a client of *target* that trusts *authority*."""
    if target.startswith("tls"):
        return fastrpc.connect(target, tls=fastrpc.TlsOptions(ca=authority))
    return fastrpc.connect(target)


async def neighbours(port: str, authority: str, pace: str) -> None:
    """Call by HTTP, WebSocket and TLS now and then; tell how often whenever a line comes."""
    loop = asyncio.get_running_loop()
    done = [0, 0, 0]
    place = f"{HOST}:{port}"
    async with (
        connected(f"ws://{place}", authority) as first,
        connected(f"tls://{place}", authority) as second,
    ):

        async def repeat(kind: int, call: Callable[[], Any]) -> None:
            while True:
                await call()
                done[kind] += 1
                await asyncio.sleep(1 / float(pace))

        reader, writer = await asyncio.open_connection(HOST, int(port))
        body = json.dumps([SMALL]).encode()
        head = (
            f"POST /rpc/Echo.echo HTTP/1.1\r\nHost: {place}\r\nContent-Type: application/json"
            f"\r\nContent-Length: {len(body)}\r\n\r\n"
        )

        async def post() -> None:
            writer.write(head.encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"the server said {answer!r}")
            (length,) = [
                int(line.partition(b":")[2])
                for line in answer.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            ]
            if json.loads(await reader.readexactly(length)) != SMALL:
                raise RuntimeError("the server's answer is no echo")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(repeat(0, lambda: first.call("Echo.echo", SMALL)))
            tasks.create_task(repeat(1, lambda: second.call("Echo.echo", SMALL)))
            tasks.create_task(repeat(2, post))
            print("open", flush=True)
            while await loop.run_in_executor(None, sys.stdin.readline):
                print(min(done), flush=True)


PARTS: Final[dict[str, Callable[..., Any]]] = {
    part.__name__: part for part in (serve, client, neighbours)
}


def part(running: ExitStack, core: int, name: str, *words: object) -> Part:
    """Start one of the parts on *core*."""
    return Part(running, core, name, *words, module="bench.websocket")


class Bench:
    """What all comparisons share.

    Args:
        folder: Where certificates are.
        rounds: How often each thing is measured.
        seconds: For how long.
        cores: That of what is measured, and that of the neighbours.
        pace: Of the neighbours.
    """

    def __init__(
        self, folder: Path, rounds: int, seconds: float, cores: Sequence[int], pace: float
    ) -> None:
        self.folder = folder
        self.rounds = rounds
        self.seconds = seconds
        self.cores = cores
        self.pace = pace
        authority = trustme.CA()
        self.certificate, self.authority = folder / "server.pem", folder / "ca.pem"
        authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(self.certificate)
        authority.cert_pem.write_to_path(self.authority)

    def in_turn(self, *ways: Callable[[], float]) -> list[list[float]]:
        """Measure each of *ways* in every round, every second round in the other order."""
        found: list[list[float]] = [[] for _ in ways]
        for number in range(self.rounds):
            order = range(len(ways)) if number % 2 == 0 else reversed(range(len(ways)))
            for which in order:
                found[which].append(ways[which]())
        return found

    def websocket(self) -> dict[str, Any]:
        """Compare binary calls over WebSocket with picows."""
        environment.prepare()
        with ExitStack() as running:
            port, other = free_port(), free_port()
            part(running, self.cores[0], "serve", port, "all", self.certificate)
            caller = part(running, self.cores[0], "client", self.authority, f"ws://{HOST}:{port}")
            peer = running.enter_context(serving("picows", other, self.folder, self.cores[0]))

            def picows() -> float:
                rows = call_all("picows", other, self.folder, self.cores[0], self.seconds, peer)
                (rate,) = [row["rate"] for row in rows if row["in_flight"] == IN_FLIGHT]
                return float(rate)

            rates = self.in_turn(lambda: caller.ask(0, self.seconds), picows)
        return figure("calls over ws:// / picows echo", ("ws", "picows"), rates, 3.0)

    def tls(self) -> dict[str, Any]:
        """Compare calls over TLS with plain ones."""
        with ExitStack() as running:
            port = free_port()
            part(running, self.cores[0], "serve", port, "all", self.certificate)
            place = f"{HOST}:{port}"
            caller = part(
                running, self.cores[0], "client", self.authority, f"tls://{place}", f"tcp://{place}"
            )
            ways = [lambda n=n: caller.ask(n, self.seconds) for n in (0, 1)]
            rates = self.in_turn(*ways)
        return figure("calls over tls:// / tcp://", ("tls", "tcp"), rates, 0.5)

    def beside(self) -> dict[str, Any]:
        """Compare calls beside neighbours with calls at a server that has none."""
        with ExitStack() as running:
            shared, alone = free_port(), free_port()
            part(running, self.cores[0], "serve", shared, "all", self.certificate)
            part(running, self.cores[0], "serve", alone, "alone", self.certificate)
            others = part(running, self.cores[-1], "neighbours", shared, self.authority, self.pace)
            caller = part(
                running, self.cores[0], "client", self.authority,
                f"tcp://{HOST}:{shared}", f"tcp://{HOST}:{alone}",
            )  # fmt: skip
            ways = [lambda n=n: caller.ask(n, self.seconds) for n in (0, 1)]
            rates = self.in_turn(*ways)
            served = others.ask("count")
        if not served:
            raise RuntimeError("a neighbour was not served")
        found = figure(
            "calls beside HTTP, WebSocket, TLS / alone", ("beside", "alone"), rates, 0.97
        )
        return {**found, "served": served}


def figure(
    what: str, names: tuple[str, str], rates: list[list[float]], goal: float
) -> dict[str, Any]:
    """Return one comparison as plain data."""
    ratios = [first / second for first, second in zip(*rates, strict=True)]
    return {
        "what": what,
        "goal": goal,
        "ratios": ratios,
        "rates": dict(zip(names, rates, strict=True)),
    }


def tell(found: dict[str, Any]) -> bool:
    """Print one comparison; return whether its goal is met."""
    ratios, goal = found["ratios"], found["goal"]
    middle = statistics.median(ratios)
    met = bool(middle >= goal)
    rates = ", ".join(
        f"{name} {statistics.median(each):,.0f}/s" for name, each in found["rates"].items()
    )
    print(
        f"{'ok   ' if met else 'SHORT'} {found['what']}: {middle:.2f}"
        f" ({min(ratios):.2f}-{max(ratios):.2f}; goal >= {goal:g}); {rates}",
        flush=True,
    )
    return met


def main(arguments: Sequence[str]) -> int:
    """Be one of the parts, or run them all; return 1 if a goal is missed."""
    if arguments and arguments[0] in PARTS:
        uvloop.run(PARTS[arguments[0]](*arguments[1:]))
        return 0
    subjects = ("websocket", "tls", "beside")
    parser = argparse.ArgumentParser(prog="python -m bench.websocket")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", default=",".join(subjects))
    parser.add_argument("--pace", type=float, default=PACE, help="calls a second of a neighbour")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON, too")
    options = parser.parse_args(arguments)
    cores = sorted(os.sched_getaffinity(0))
    told = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.rounds, options.seconds, cores, options.pace)
        for name in options.only.split(","):
            if name not in subjects:
                parser.error(f"--only knows {', '.join(subjects)}; got {name!r}")
            told.append(getattr(bench, name)())
            tell(told[-1])
    if options.json:
        print(json.dumps({"kind": "websocket", "figures": told}))
    return 0 if all(statistics.median(each["ratios"]) >= each["goal"] for each in told) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
