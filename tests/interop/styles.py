"""Every style of call, once each, over one connection; and what may be left of it: nothing.

python -m tests.interop.styles serve LOOP FOLDER     serves until killed, prints its targets
python -m tests.interop.styles talk LOOP TARGETS     goes through all of them, prints JSON
"""

import asyncio
import contextlib
import functools
import gc
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import uvloop

import fastrpc
from fastrpc.session import Session
from fastrpc.session.running import Running
from fastrpc.session.stream import StreamCore

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
SENT, SEEN = "sent-by", "seen-by"


class Typed:
    """Methods of every style; what they do to a value they do to numbers and to bytes."""

    def __init__(self) -> None:
        self.noted: list[Any] = []

    def twice(self, value: int) -> int:
        return value + value

    async def later(self, value: int) -> int:
        await asyncio.sleep(0)
        return value + value

    def note(self, value: int) -> int:
        self.noted.append(value)
        return value

    def last(self, value: int) -> int:
        return self.noted[-1] if self.noted else value

    async def tell(self, value: int, call: fastrpc.Call = fastrpc.GIVEN) -> int:
        call.reply_metadata = {"got": dict(call.metadata).get("mine", b"nothing")}
        return value

    async def repeat(self, value: int) -> AsyncIterator[int]:
        for times in range(1, 6):
            yield value * times
            await asyncio.sleep(0)

    async def join(self, items: AsyncIterator[int]) -> int:
        total: int = _sum([item async for item in items])
        return total

    async def twice_each(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield item + item

    async def back(self, value: int, peer: fastrpc.Peer = fastrpc.GIVEN) -> int:
        got: int = await peer.call("Back.twice", value)
        return got

    async def pull(self, value: int, peer: fastrpc.Peer = fastrpc.GIVEN) -> int:
        total: int = _sum([item async for item in peer.stream("Back.repeat", value)])
        return total

    async def push(self, value: int, peer: fastrpc.Peer = fastrpc.GIVEN) -> int:
        peer.notify("Back.note", value)
        return value


class Octets(Typed):
    """The same for a codec that knows bytes only."""

    def twice(self, value: bytes) -> bytes:  # type: ignore[override]
        return value + value

    async def later(self, value: bytes) -> bytes:  # type: ignore[override]
        await asyncio.sleep(0)
        return value + value

    def note(self, value: bytes) -> bytes:  # type: ignore[override]
        self.noted.append(value)
        return value

    def last(self, value: bytes) -> bytes:  # type: ignore[override]
        return self.noted[-1] if self.noted else value

    async def tell(self, value: bytes, call: fastrpc.Call = fastrpc.GIVEN) -> bytes:  # type: ignore[override]
        return await super().tell(value, call)  # type: ignore[arg-type, return-value]

    async def repeat(self, value: bytes) -> AsyncIterator[bytes]:  # type: ignore[override]
        async for item in super().repeat(value):  # type: ignore[arg-type]
            yield item  # type: ignore[misc]

    async def join(self, items: AsyncIterator[bytes]) -> bytes:  # type: ignore[override]
        return await super().join(items)  # type: ignore[arg-type, return-value]

    async def twice_each(self, items: AsyncIterator[bytes]) -> AsyncIterator[bytes]:  # type: ignore[override]
        async for item in items:
            yield item + item

    async def back(self, value: bytes, peer: fastrpc.Peer = fastrpc.GIVEN) -> bytes:  # type: ignore[override]
        return await super().back(value, peer)  # type: ignore[arg-type, return-value]

    async def pull(self, value: bytes, peer: fastrpc.Peer = fastrpc.GIVEN) -> bytes:  # type: ignore[override]
        return await super().pull(value, peer)  # type: ignore[arg-type, return-value]

    async def push(self, value: bytes, peer: fastrpc.Peer = fastrpc.GIVEN) -> bytes:  # type: ignore[override]
        return await super().push(value, peer)  # type: ignore[arg-type, return-value]


class Desk:
    """Tells what a server has left over."""

    def __init__(self) -> None:
        self.servers: list[fastrpc.Server] = []

    async def left(self) -> dict[str, int]:
        found = await settled(self.servers, but=1)  # this very call
        return {**found, "compiled": int(fastrpc.COMPILED)}


@dataclass(frozen=True)
class Plan:
    """What a codec's cell calls, and with what.

    Attributes:
        codec: Its name.
        service: Whose methods it can carry.
        value: What they are given.
        names: Whether arguments can have names.
    """

    codec: str
    service: type[Typed]
    value: Any
    names: bool = True


PLANS = (
    Plan("raw", Octets, b"ab", names=False),
    *(Plan(codec, Typed, 7) for codec in ("msgpack", "json", "cbor", "xml", "pickle")),
)
CODECS = ("raw", "msgpack", "json", "cbor", "xml", "pickle")
EXTRAS = ("cbor", "xml")


@dataclass(frozen=True)
class Table:
    """What a style has at hand: a connected client, its plan, and what it serves itself."""

    client: fastrpc.Client
    plan: Plan
    back: Typed
    wrapped: bool

    def name(self, method: str) -> str:
        return f"{self.plan.service.__name__}.{method}"

    def call(self, method: str, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        return self.client.call(self.name(method), *args, **kwargs)


Style = Callable[[Table], Awaitable[None]]
STYLES: dict[str, Style] = {}


def style(act: Style) -> Style:
    STYLES[act.__name__] = act
    return act


@style
async def unary(table: Table) -> None:
    value = table.plan.value
    assert await table.call("twice", value) == value + value
    assert await table.call("later", value) == value + value


@style
async def by_name(table: Table) -> None:
    value = table.plan.value
    if table.plan.names:
        assert await table.call("twice", value=value) == value + value
        assert await table.call("later", value=value) == value + value
        return
    try:
        await table.call("twice", value=value)
    except fastrpc.CodecError as exc:
        assert "no names" in str(exc)
    else:
        raise AssertionError("names went through a codec without any")


@style
async def oneway(table: Table) -> None:
    sent = table.plan.value * 11
    table.client.notify(table.name("note"), sent)
    assert await table.call("last", table.plan.value) == sent


@style
async def metadata_both_ways(table: Table) -> None:
    view = table.client.options(metadata={"mine": b"\xff1"})
    reply = await view.exchange(table.name("tell"), table.plan.value)
    assert reply.value == table.plan.value
    assert dict(reply.metadata)["got"] == b"\xff1"
    plain = await table.client.exchange(table.name("twice"), table.plan.value)
    assert plain.value == table.plan.value * 2
    assert bool(dict(plain.metadata)) is table.wrapped


@style
async def interceptors(table: Table) -> None:
    reply = await table.client.exchange(table.name("twice"), table.plan.value)
    seen = dict(reply.metadata)
    assert seen.get(SEEN) == (b"client" if table.wrapped else None), seen


@style
async def server_stream(table: Table) -> None:
    value = table.plan.value
    expected = [value * times for times in range(1, 6)]
    stream = table.client.stream(table.name("repeat"), value)
    assert [item async for item in stream] == expected
    stub = table.client.stub(table.plan.service)
    assert [item async for item in stub.repeat(value)] == expected


@style
async def client_stream(table: Table) -> None:
    value = table.plan.value
    async with table.client.stream(table.name("join")) as stream:
        for times in range(1, 6):
            await stream.send(value * times)
        await stream.end()
        assert await stream.result() == value * 15
    stub: Any = table.client.stub(table.plan.service)
    assert await stub.join(_counted(value, 5)) == value * 15


@style
async def both_ways(table: Table) -> None:
    value = table.plan.value
    async with table.client.stream(table.name("twice_each")) as stream:
        for times in range(1, 4):  # each answer before the next question
            await stream.send(value * times)
            assert await anext(stream) == value * times * 2
        await stream.end()
        assert [item async for item in stream] == []
        await stream.result()
    stub: Any = table.client.stub(table.plan.service)
    got = [item async for item in stub.twice_each(_counted(value, 5))]
    assert got == [value * times * 2 for times in range(1, 6)]


@style
async def left_half_way(table: Table) -> None:
    value = table.plan.value
    async for item in table.client.stream(table.name("repeat"), value):
        assert item == value
        break
    assert await table.call("twice", value) == value + value


@style
async def server_calls_client(table: Table) -> None:
    value = table.plan.value
    assert await table.call("back", value) == value + value
    assert await table.call("pull", value) == value * 15


@style
async def server_push(table: Table) -> None:
    value = table.plan.value
    assert await table.call("push", value) == value
    assert table.back.noted == [value]


@style
async def gather(table: Table) -> None:
    value = table.plan.value
    calls = [(table.name("twice"), value * times) for times in range(1, 20)]
    *good, bad = await table.client.gather([*calls, (table.name("nothing"), value)])
    assert good == [value * times * 2 for times in range(1, 20)]
    assert type(bad) is fastrpc.MethodNotFound


def blocking(target: str, plan: Plan) -> None:
    """Be the style of who has no loop; it has a connection of its own."""
    with fastrpc.connect_sync(target, **options_of(plan)) as client:
        name = plan.service.__name__
        assert client.call(f"{name}.twice", plan.value) == plan.value * 2
        assert client.call(f"{name}.later", plan.value) == plan.value * 2
        client.notify(f"{name}.note", plan.value * 3)
        assert client.call(f"{name}.last", plan.value) == plan.value * 3
        try:
            client.call(f"{name}.nothing", plan.value)
        except fastrpc.MethodNotFound:
            return
    raise AssertionError("a method that is not there was called")


def options_of(plan: Plan) -> dict[str, Any]:
    """Return what a client of the plan's codec is connected with."""
    return {
        "codec": plan.codec,
        "codecs": [fastrpc.codec.extra(name) for name in EXTRAS],
        "pickle": plan.codec == "pickle",
        "timeout": 20.0,
    }


def tasks_of_calls() -> "set[asyncio.Task[Any]]":
    """Return all tasks but the one that a server keeps for its next call, see `firststep`."""
    return {
        task
        for task in asyncio.all_tasks()
        if getattr(task.get_coro(), "__qualname__", "") != "_Spare._run"
    }


async def converse(target: str, plan: Plan, *, wrapped: bool) -> str:
    """Go through all styles; return "" or what went wrong."""
    before = alive()
    tasks = len(tasks_of_calls())
    back = plan.service()
    more: dict[str, Any] = {"interceptors": [sending]} if wrapped else {}
    client = fastrpc.connect(target, **options_of(plan), **more)
    client.register(back, "Back")
    async with client:
        table = Table(client, plan, back, wrapped)
        for name, act in STYLES.items():
            try:
                async with asyncio.timeout(20):
                    await act(table)
            except Exception as exc:
                return f"{name}: {type(exc).__name__}: {exc}"
        if rest := await settle(functools.partial(rest_of, client.lanes[0].owner), 5.0):
            return f"left at the client: {rest}"
    del table, client
    if await settle(lambda: len(tasks_of_calls()) > tasks, 5.0):
        return f"left at the client: {len(tasks_of_calls()) - tasks} tasks"
    gc.collect()
    after = alive()
    return f"left in memory: {after}, before {before}" if after > before else ""


# ---------------------------------------------------------------------- what is left


def rest_of(session: Session) -> dict[str, int]:
    """Return what is not nothing in the tables of one end of a connection."""
    counts = {
        "running": len(session.running),
        "calls": len(session.lane.table),
        "own streams": len(session.streams.own),
        "peer's streams": len(session.streams.peers),
        "held": len(session._held) + len(session.streams._held),
    }
    return {name: count for name, count in counts.items() if count}


def alive() -> int:
    """Return how many halves, streams and handlers are in memory: a sink holds its inlet."""
    kinds = (fastrpc.frame.Inlet, fastrpc.frame.Outlet, StreamCore, Running)
    return sum(type(thing) in kinds for thing in gc.get_objects())


async def settle(left: Callable[[], Any], seconds: float) -> Any:
    """Wait until nothing is left, and return what is when the time is up."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while left():
                await asyncio.sleep(0.001)
    return left()


async def settled(servers: list[fastrpc.Server], but: int = 0) -> dict[str, int]:
    """Return what the servers have left over, apart from *but* calls."""

    def left() -> dict[str, int]:
        found = {"running": -but, "calls": 0}
        for server in servers:
            found["running"] += server.stats().running
            for session in server._hall.sessions:
                for name, count in rest_of(session).items():
                    if name != "running":
                        found[name] = found.get(name, 0) + count
        return {name: count for name, count in found.items() if count}

    rest: dict[str, int] = await settle(left, 5.0)
    return rest


# ------------------------------------------------------------------------- both ends


def sending(handler: fastrpc.Handler) -> fastrpc.Handler:
    """Be the client's interceptor: say so to the server."""

    async def send(call: fastrpc.Call) -> fastrpc.Reply:
        call.metadata = {**dict(call.metadata), SENT: b"client"}
        return await handler(call)

    return send


def receiving(handler: fastrpc.Handler) -> fastrpc.Handler:
    """Be the server's interceptor: say who was seen."""

    async def receive(call: fastrpc.Call) -> fastrpc.Reply:
        reply = await handler(call)
        reply.metadata = {**dict(reply.metadata), SEEN: dict(call.metadata).get(SENT, b"nobody")}
        return reply

    return receive


def make_server(*, wrapped: bool) -> fastrpc.Server:
    """Return a server of all that the plans call."""
    server = fastrpc.Server(
        codecs=[fastrpc.codec.extra(name) for name in EXTRAS],
        pickle=True,
        interceptors=[receiving] if wrapped else [],
    )
    server.register(Typed())
    server.register(Octets())
    return server


async def serve(folder: str) -> None:
    """Serve both kinds of server, each on TCP and on a Unix socket."""
    desk = Desk()
    targets: dict[str, list[str]] = {}
    for wrapped in (False, True):
        server = make_server(wrapped=wrapped)
        server.register(desk)
        desk.servers.append(server)
        await server.start("tcp://127.0.0.1:0", f"unix://{folder}/{wrapped:d}.sock")
        targets[str(wrapped)] = list(server.targets)
    print(json.dumps(targets), flush=True)
    await desk.servers[0].serve_forever()


async def talk(targets: dict[str, list[str]]) -> dict[str, str]:
    """Go through every codec and transport, and ask the server what is left."""
    told: dict[str, str] = {}
    for wrapped in (False, True):
        for target in targets[str(wrapped)]:
            for plan in PLANS:
                cell = f"{plan.codec} {target.partition(':')[0]}{' wrapped' * wrapped}"
                told[cell] = await converse(target, plan, wrapped=wrapped)
                if not wrapped:
                    await asyncio.to_thread(blocking, target, plan)
    async with fastrpc.connect(targets["False"][0]) as client:
        left = await client.call("Desk.left")
        told["served by"] = "compiled" if left.pop("compiled") else "pure"
        told["left at the server"] = repr(left) if left else ""
    told["spoken by"] = "compiled" if fastrpc.COMPILED else "pure"
    return told


def _sum(items: list[Any]) -> Any:
    total = items[0]
    for item in items[1:]:
        total = total + item
    return total


async def _counted(value: Any, count: int) -> AsyncIterator[Any]:
    for times in range(1, count + 1):
        yield value * times


def main(what: str, loop: str, rest: str) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        if what == "serve":
            runner.run(serve(rest))
        else:
            print(json.dumps(runner.run(talk(json.loads(rest)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
