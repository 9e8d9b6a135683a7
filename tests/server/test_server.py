"""Servers as people use them: targets, registration, numbers, states."""

import asyncio
import logging
import math
import types
from pathlib import Path
from typing import Any

import pytest

import fastrpc
from fastrpc.call import read_document
from fastrpc.server.server import ServerState
from tests.adversity.raw_peer import RawPeer, call, hello_frame
from tests.server.serving import assert_nothing_left, serving, target_of, until

CALM = logging.getLogger("tests.calm")


class Arith:
    """Small sums."""

    def add(self, a: int, b: int = 2) -> int:
        """Return a + b."""
        return a + b

    async def mul(self, a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a * b

    def _hidden(self) -> None: ...

    @fastrpc.rpc(blocking=True, idempotent=True)
    def slow(self, path: str) -> bytes:
        return path.encode()

    async def count(self, n: int) -> Any:
        for i in range(n):
            yield i


def length(text: str) -> int:
    """Count characters."""
    return len(text)


# ----------------------------------------------------------------------- targets


@pytest.mark.asyncio
async def test_one_server_at_four_kinds_of_target(tmp_path: Path, both_twins: None) -> None:
    targets = [target_of(scheme, tmp_path) for scheme in ("tcp", "tcp6", "unix", "mem")]
    async with serving(Arith(), *targets) as server:
        assert len(server.targets) == 4
        for target in server.targets:
            async with fastrpc.connect(target, timeout=5.0) as client:
                assert await client.call("Arith.add", 1, 2) == 3
        assert server.stats().accepted == 4
        file = Path(targets[2].removeprefix("unix://"))
        assert file.exists()
    assert not file.exists()


@pytest.mark.asyncio
async def test_more_targets_while_serving() -> None:
    async with serving(Arith()) as server:
        await server.start("mem://added")
        assert len(server.targets) == 2
        async with fastrpc.connect("mem://added") as client:
            assert await client.call("Arith.add", 1) == 3


@pytest.mark.asyncio
async def test_targets_are_had_all_or_none() -> None:
    async with serving(Arith()) as server:
        taken = server.targets[0]
        other = fastrpc.Server()
        with pytest.raises(fastrpc.TransportError, match="can't listen"):
            await other.start("mem://none", taken)
        assert other.targets == []
        with pytest.raises(fastrpc.ConnectFailed):
            await fastrpc.connect("mem://none").__aenter__()
        await other.start("mem://none")  # and it can still be started
        await other.aclose(0)


@pytest.mark.asyncio
async def test_what_came_in_before_the_last_target_failed_is_let_go() -> None:
    # The first target listens while the second is still looked for.
    async with serving(Arith()) as taken:
        server = fastrpc.Server(log=CALM)
        server.register(Arith())

        async def meet() -> None:
            while True:
                try:
                    peer = await RawPeer.connect("mem://early")
                except fastrpc.ConnectFailed:
                    await asyncio.sleep(0)
                    continue
                async with peer:
                    peer.send(hello_frame())
                    await peer.rest()
                return

        meeting = asyncio.ensure_future(meet())
        with pytest.raises(fastrpc.TransportError):
            await server.start("mem://early", "tcp://localhost:1", taken.targets[0])
        meeting.cancel()
        await asyncio.wait((meeting,))
        await server.aclose(0)
        assert_nothing_left(server)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("target", "words"),
    [("gopher://x:1", "gopher"), ("tcp://127.0.0.1", "port"), ("", "target")],
)
async def test_targets_of_no_sense(target: str, words: str) -> None:
    with pytest.raises(fastrpc.ConfigError, match=words):
        await fastrpc.Server().start(target)


@pytest.mark.asyncio
async def test_no_target_at_all() -> None:
    with pytest.raises(fastrpc.ConfigError, match="no target"):
        await fastrpc.Server().start()


@pytest.mark.asyncio
async def test_a_server_closed_while_it_starts() -> None:
    server = fastrpc.Server()
    starting = asyncio.ensure_future(
        server.start("tcp://localhost:0", "mem://x", "tcp://localhost:0")
    )
    await asyncio.sleep(0)
    await server.aclose(0)
    with pytest.raises(fastrpc.ConfigError, match="closed"):
        await starting
    assert server.targets == []


def test_a_server_belongs_to_the_loop_where_it_was_started() -> None:
    server = fastrpc.Server()

    async def start(target: str) -> None:
        await server.start(target)

    asyncio.run(start("mem://loop1"))
    with pytest.raises(fastrpc.ConfigError, match="another event loop"):
        asyncio.run(start("mem://loop2"))


def test_the_constructor_needs_no_loop() -> None:
    server = fastrpc.Server()
    server.register(Arith())
    assert repr(server) == "<Server idle>"
    assert server.targets == []
    assert server.stats().state is ServerState.IDLE


@pytest.mark.asyncio
async def test_closing_what_was_never_started() -> None:
    server = fastrpc.Server()
    with pytest.raises(fastrpc.ConfigError, match="start"):
        await server.serve_forever()
    await server.aclose()
    assert repr(server) == "<Server closed>"


@pytest.mark.asyncio
async def test_serve_forever_ends_with_the_server() -> None:
    async with fastrpc.Server() as server:
        await server.start("mem://forever")
        serving_on = asyncio.ensure_future(server.serve_forever())
        await asyncio.sleep(0)
        assert repr(server) == "<Server serving mem://forever>"
        assert not serving_on.done()
    await serving_on


# ------------------------------------------------------------------ registration


@pytest.mark.asyncio
async def test_what_can_be_registered(both_twins: None) -> None:
    module = types.ModuleType("sums")
    exec("def twice(n: int) -> int:\n    return 2 * n", vars(module))
    server = fastrpc.Server()
    server.register(Arith)
    server.register(Arith(), name="Other")
    server.register(length)
    server.register(length, name="len")
    server.register(lambda n: n + 1, name="next")
    server.register(module)
    await server.start("mem://registered")
    async with fastrpc.connect("mem://registered") as client:
        assert await client.call("Arith.add", 1) == 3
        assert await client.call("Other.mul", 2, 3) == 6
        assert await client.call("length", "four") == await client.call("len", "four") == 4
        assert await client.call("next", 1) == 2
        assert await client.call("sums.twice", 4) == 8
        server.register(length, name="late")  # while it serves
        assert await client.call("late", "x") == 1
        with pytest.raises(fastrpc.MethodNotFound):
            await client.call("Arith._hidden")
        with pytest.raises(fastrpc.InvalidArgument, match="is a stream"):
            await client.call("Arith.count", 3)
    await server.aclose(0)


def test_a_name_is_taken_once_and_nothing_is_half_registered() -> None:
    server = fastrpc.Server()
    server.register(Arith())
    server.register(length, name="Sums.twice")

    class Sums:
        def once(self) -> None: ...

        def twice(self) -> None: ...

    for obj, name in ((Arith(), None), (Sums(), None), (length, "fastrpc.describe")):
        with pytest.raises(fastrpc.ConfigError, match="registered already"):
            server.register(obj, name)
    assert b"Sums.once" not in server._routes.table


def test_names_over_max_name() -> None:
    server = fastrpc.Server(max_name=20)
    server.register(length, name="x" * 20)
    with pytest.raises(fastrpc.ConfigError, match="max_name"):
        server.register(length, name="x" * 21)


@pytest.mark.parametrize("obj", [5, None, object(), "text"])
def test_what_can_not_be_registered(obj: Any) -> None:
    with pytest.raises(fastrpc.ConfigError):
        fastrpc.Server().register(obj)


# ----------------------------------------------------------------------- numbers


@pytest.mark.asyncio
async def test_describe_tells_what_there_is() -> None:
    async with serving(Arith(), max_body=12_345) as server:
        server.register(length)
        async with fastrpc.connect(server.targets[0]) as client:
            told = await client.describe()
    assert told["agent"] == f"fastrpc/{fastrpc.__version__}"
    assert told["limits"]["max_body"] == 12_345
    assert [service["name"] for service in told["services"]] == ["Arith", "length"]
    arith, _ = told["services"]
    assert arith["doc"] == "Small sums."
    methods = {method["name"]: method for method in arith["methods"]}
    assert list(methods) == ["Arith.add", "Arith.mul", "Arith.slow", "Arith.count"]
    assert methods["Arith.add"]["signature"] == "add(a: int, b: int = 2) -> int"
    assert methods["Arith.slow"]["idempotent"] is True


@pytest.mark.asyncio
async def test_describe_has_schemas_when_asked() -> None:
    async with serving(Arith()) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            short = await client.describe()
            told = await client.describe(schema=True)
            by_position = await client.call("fastrpc.describe", True)
        assert told == by_position == server.describe(schema=True)
        assert short == server.describe()
        server.register(length)
        assert "length" in [service["name"] for service in server.describe()["services"]]
        assert "length" in [s["name"] for s in server.describe(schema=True)["services"]]
    assert "$defs" not in short
    method, described = told["services"][0]["methods"][0], short["services"][0]["methods"][0]
    assert "arguments" not in described
    assert len(described["fingerprint"]) == 16
    assert method["fingerprint"] == described["fingerprint"]
    assert method["arguments"]["required"] == ["a"]
    assert method["result"] == {"type": "integer"}
    assert told["limits"] == short["limits"]
    read_document({key: told[key] for key in ("$schema", "fastrpc", "services", "$defs")})


@pytest.mark.asyncio
async def test_stats_count_what_happened(both_twins: None) -> None:
    async with serving(Arith(), log=CALM) as server:
        idle = server.stats()
        assert (idle.connections, idle.accepted, idle.calls, idle.methods) == (0, 0, 0, {})
        async with await RawPeer.greeted(server.targets[0]) as peer:
            peer.send(call(1, b"Arith.add"), call(2, b"Arith.mul"), call(3, b"No.such"))
            for id in (1, 2, 3):
                await peer.reply(id)
            peer.send(call(4, b"Arith.add", b"\xc1"))
            await peer.reply(4)
            stats = server.stats()
            assert (stats.state, stats.connections, stats.accepted) == (ServerState.SERVING, 1, 1)
            assert (stats.calls, stats.refused, stats.running) == (4, 2, 0)
            assert stats.methods == {"Arith.add": (1, 0), "Arith.mul": (1, 0)}
        await until(lambda: not server.stats().connections)
        assert server.stats().calls == 4  # of connections that are gone, too


# ----------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"no_such": 1}, "no_such"),
        ({"max_running": 0}, "max_running"),
        ({"max_running": 1.5}, "max_running"),
        ({"max_running": True}, "max_running"),
        ({"max_connections": 0}, "max_connections"),
        ({"max_connections": "many"}, "max_connections"),
        ({"max_per_host": -1}, "max_per_host"),
        ({"max_pending": None}, "max_pending"),
        ({"threads": 0}, "threads"),
        ({"backlog": 0}, "backlog"),
        ({"max_unsent_total": 0}, "max_unsent_total"),
        ({"max_name": 15}, "max_name .* at least 16, for the built-in method fastrpc.describe"),
        ({"handler_timeout": 0}, "handler_timeout"),
        ({"handler_timeout": -1.0}, "handler_timeout"),
        ({"handler_timeout": math.nan}, "handler_timeout"),
        ({"handler_timeout": math.inf}, "handler_timeout"),
        ({"handler_timeout": "1"}, "handler_timeout"),
        ({"handler_timeout": True}, "handler_timeout"),
        ({"pickle": 1}, "pickle"),
        ({"tracebacks": "yes"}, "tracebacks"),
        ({"max_body": 0}, "max_body"),
        ({"max_body": 2**31}, "max_body"),
        ({"max_hello": 16 * 1024 + 1}, "max_hello"),
        ({"hello_timeout": 0}, "hello_timeout"),
    ],
)
def test_options_of_no_sense_are_refused_by_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(fastrpc.ConfigError, match=words):
        fastrpc.Server(**options)


def test_all_options_can_be_given() -> None:
    server = fastrpc.Server(
        handler_timeout=1, max_running=1, max_connections=1, max_per_host=1, max_pending=1,
        threads=1, backlog=1, max_unsent_total=1, tracebacks=True, max_body=1, max_calls=1,
        max_name=16,
    )  # fmt: skip
    assert server.options.handler_timeout == 1
    assert server.limits.max_calls == 1


# ------------------------------------------------------------- codecs and pickle


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


class Any_:
    """Takes anything."""

    def move(self, point: Any) -> Any:
        return point


@pytest.mark.asyncio
async def test_pickle_only_where_both_sides_said_so(both_twins: None) -> None:
    payload = b"\x80\x05]\x94(K\x02K\x03e."  # the list [2, 3]
    for on, codecs, status in (
        (True, {"msgpack": 1, "pickle": 3}, 0),
        (True, {"msgpack": 1}, 47),
        (False, {"msgpack": 1, "pickle": 3}, 47),
        (False, {"msgpack": 1}, 47),
    ):
        async with serving(Arith(), log=CALM, pickle=on) as server:
            async with await RawPeer.greeted(server.targets[0], codecs=codecs) as peer:
                peer.send(call(1, b"Arith.add", payload, serializer=3))
                assert (await peer.reply(1)).status == status


@pytest.mark.asyncio
async def test_objects_go_both_ways_with_pickle() -> None:
    async with serving(Any_(), pickle=True) as server:
        server.register(Any_(), name="Any")
        async with fastrpc.connect(server.targets[0], codec="pickle", pickle=True) as client:
            assert (await client.call("Any.move", Point(5))).x == 5


class Shouting:
    """A codec of one's own: JSON in capitals would be silly, so it is text."""

    name = "shout"
    serializer = 20

    def encode(self, value: object, /) -> bytes:
        return repr(value).upper().encode()

    def decode(self, data: bytes, /) -> object:
        return [word for word in data.decode().strip("[]()',").replace("'", "").split(", ") if word]

    def decoder(self, type: object, /) -> Any:
        return self.decode

    def arguments(self, types: Any, required: int, rest: object | None, /) -> Any:
        return self.decode

    def convert(self, value: object, type: object, /) -> object:
        return type(value) if callable(type) else value


@pytest.mark.asyncio
async def test_a_codec_of_ones_own(both_twins: None) -> None:
    async with serving(Arith(), log=CALM, codecs=[Shouting()]) as server:
        for codecs, status in (({"msgpack": 1, "shout": 20}, 0), ({"msgpack": 1}, 47)):
            async with await RawPeer.greeted(server.targets[0], codecs=codecs) as peer:
                peer.send(call(1, b"Arith.add", b"[2, 3]", serializer=20))
                reply = await peer.reply(1)
                assert reply.status == status
                assert status or reply.payload == b"5"
