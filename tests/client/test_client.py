import asyncio
import contextlib
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import fastrpc
from fastrpc.client.client import ClientState
from tests.client.served import (
    SCHEMES,
    Point,
    Work,
    address,
    serving,
    sessions_of,
    sockets,
    turn_until,
)
from tests.conftest import LoopFactory


@pytest.fixture(params=SCHEMES)
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    with address(request.param) as target:
        yield target


# Calls


@pytest.mark.asyncio
async def test_calls_over_every_transport(target: str) -> None:
    async with serving(target) as (server, work), fastrpc.connect(server.targets[0]) as client:
        assert await client.call("Work.add", 1, 2) == 3
        assert await client.call("Work.add", a=1) == 3
        assert await client.call("Work.add", 1, b=5) == 6
        assert await client.call("Work.echo", {"a": [1, None, b"x", "é"]}) == {
            "a": [1, None, b"x", "é"]
        }
        assert await client.call("Work.size", b"\0" * 3_000_000) == 3_000_000
        assert await client.call("Work.blob", 3_000_000) == b"\x01" * 3_000_000
        assert await client.ping() < 1.0
        client.notify("Work.note", "told")
        assert await client.call("Work.note", "called") == 2
        assert work.runs == ["told", "called"]
        told = await client.describe()
        assert [service["name"] for service in told["services"]] == ["Work"]


@pytest.mark.asyncio
async def test_several_calls_are_started_before_the_first_is_awaited() -> None:
    async with serving() as (server, work), fastrpc.connect(server.targets[0]) as client:
        slow = client.call("Work.wait", "slow")
        quick = [client.call("Work.add", n, n) for n in range(100)]
        assert [await call for call in reversed(quick)] == [2 * n for n in reversed(range(100))]
        work.gate.set()
        assert await slow == "slow"


@pytest.mark.asyncio
async def test_calls_made_before_there_is_a_connection_wait_for_it() -> None:
    async with serving() as (server, _):
        client = fastrpc.connect(server.targets[0])
        calls = [client.call("Work.add", n) for n in range(200)]
        assert await asyncio.gather(*calls) == [n + 2 for n in range(200)]
        await client.aclose()


@pytest.mark.asyncio
async def test_what_is_wrong_with_a_call_is_raised_when_it_is_made() -> None:
    async with (
        serving(max_body=2000) as (server, _),
        fastrpc.connect(server.targets[0]) as client,
    ):
        with pytest.raises(fastrpc.CodecError, match="Work.echo: arguments can't be encoded"):
            client.call("Work.echo", object())
        with pytest.raises(fastrpc.TooLarge, match="over the server's max_body of 2000"):
            client.call("Work.size", b"\0" * 2000)
        with pytest.raises(TypeError):
            client.call()  # type: ignore[call-arg]
        assert await client.call("Work.add", 1, 2) == 3


@pytest.mark.asyncio
async def test_what_the_server_says_is_raised_by_the_awaitable() -> None:
    async with serving() as (server, _), fastrpc.connect(server.targets[0]) as client:
        unknown = client.call("Work.nothing")
        wrong = client.call("Work.add", "1")
        failing = client.call("Work.fail", "no such thing")
        refused = client.call("Work.refuse")
        with pytest.raises(fastrpc.MethodNotFound, match=r"Work\.nothing") as none:
            await unknown
        assert none.value.ran == "no"
        with pytest.raises(fastrpc.InvalidArgument, match="argument 'a'") as invalid:
            await wrong
        assert invalid.value.ran == "no"
        with pytest.raises(fastrpc.RemoteError, match="no such thing") as raised:
            await failing
        assert (raised.value.type, raised.value.ran) == ("LookupError", "yes")
        with pytest.raises(fastrpc.RpcError) as code:
            await refused
        assert (code.value.code, code.value.data) == (402, {"balance": 3})


@pytest.mark.asyncio
async def test_an_unknown_method_stays_callable_by_name_later() -> None:
    async with serving() as (server, _), fastrpc.connect(server.targets[0]) as client:
        for _ in range(2):
            with pytest.raises(fastrpc.MethodNotFound):
                await client.call("late")
        server.register(lambda: "now", name="late")
        assert await client.call("late") == "now"


@pytest.mark.asyncio
async def test_a_reply_that_is_too_large_fails_one_call() -> None:
    async with serving() as (server, _):
        async with fastrpc.connect(server.targets[0], max_body=1000) as client:
            with pytest.raises(fastrpc.Internal, match="max_body of 1000") as large:
                await client.call("Work.blob", 1001)
            assert large.value.ran == "yes"
            assert await client.call("Work.add", 1, 2) == 3


@pytest.mark.asyncio
@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_codecs(codec: str) -> None:
    async with serving() as (server, _):
        async with fastrpc.connect(server.targets[0], codec=codec) as client:
            assert await client.call("Work.echo", {"a": [1, 2.5, "x", None, True]}) == {
                "a": [1, 2.5, "x", None, True]
            }
            assert await client.stub(Work).move(Point(1), 2) == Point(3, 2)  # type: ignore[misc]


@pytest.mark.asyncio
async def test_the_raw_codec_carries_bytes() -> None:
    async with serving() as (server, _):
        async with fastrpc.connect(server.targets[0], codec="raw") as client:
            assert await client.call("Work.echo", b"as they are") == b"as they are"
            with pytest.raises(fastrpc.CodecError):
                client.call("Work.echo", 1)


# Views


@pytest.mark.asyncio
async def test_options_make_a_view_and_leave_the_client_as_it_is() -> None:
    async with serving() as (server, _), fastrpc.connect(server.targets[0]) as client:
        hurried = client.options(timeout=0.05)
        with pytest.raises(fastrpc.DeadlineExceeded):
            await hurried.call("Work.wait", "x")
        patient = hurried.options(timeout=None, metadata={"trace": "x"})
        assert await patient.call("Work.nap", 0.1) == 0.1
        assert await client.call("Work.nap", 0.1) == 0.1
        again = patient.options(metadata=None)
        assert await again.stub(Work).add(1, 2) == 3  # type: ignore[misc]
        client.options(metadata=[("a", b"\xff"), ("a", "2")]).notify("Work.note", "x")


@pytest.mark.asyncio
async def test_a_view_is_gone_when_nobody_has_it() -> None:
    async with serving() as (server, _), fastrpc.connect(server.targets[0]) as client:
        gc.collect()
        gc.disable()
        try:
            before = len(gc.get_objects())
            for _ in range(100):
                await client.options(timeout=1.0).call("Work.add", 1, 2)
            assert len(gc.get_objects()) - before < 100, "views are freed by the collector only"
        finally:
            gc.enable()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"timeout": 0}, fastrpc.ConfigError, "timeout must be above 0"),
        ({"timeout": "1"}, fastrpc.ConfigError, "timeout must be seconds"),
        ({"metadata": {"A": "x"}}, fastrpc.InvalidArgument, "lower-case"),
        ({"metadata": {"a": 1}}, fastrpc.InvalidArgument, "must be str or bytes"),
        ({"metadata": {"a": b"x" * 20_000}}, fastrpc.TooLarge, "max_metadata"),
    ],
)
def test_wrong_view_options(options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        fastrpc.connect("mem://nobody").options(**options)


# Oneway


@pytest.mark.asyncio
async def test_notify_without_a_connection_says_so_and_begins_to_connect() -> None:
    async with serving() as (server, work):
        client = fastrpc.connect(server.targets[0])
        with pytest.raises(fastrpc.Unavailable, match="no connection is ready") as caught:
            client.notify("Work.note", "lost")
        assert caught.value.ran == "no"
        await client.ping()
        client.notify("Work.note", "kept")
        await client.ping()
        assert work.runs == ["kept"]
        await client.aclose()
        with pytest.raises(fastrpc.ConnectionLost, match="is closed"):
            client.notify("Work.note", "x")


@pytest.mark.asyncio
async def test_notify_never_raises_what_the_handler_raises() -> None:
    async with serving() as (server, _), fastrpc.connect(server.targets[0]) as client:
        client.notify("Work.fail", "x")
        client.notify("Work.nothing")
        client.notify("Work.add", "x")
        assert await client.call("Work.add", 1, 2) == 3
        with pytest.raises(fastrpc.CodecError):
            client.notify("Work.echo", object())


@pytest.mark.asyncio
async def test_a_server_that_reads_nothing_stops_notify_before_memory_is_gone() -> None:
    async with serving() as (server, work), fastrpc.connect(server.targets[0]) as client:
        sent = 0
        with pytest.raises(fastrpc.Unavailable, match="reads too slowly"):
            while sent < 100_000:  # the loop has no turn, so the server can't read
                client.notify("Work.echo", b"\0" * 10_000)
                sent += 1
        assert 10 < sent < 10_000
        assert await client.call("Work.add", 1, 2) == 3
        client.notify("Work.note", "again")
        assert await client.call("Work.note", "x") == 2
        assert work.runs == ["again", "x"]


# Loops


def test_one_client_per_loop(loop_factory: LoopFactory) -> None:
    """Constructors touch no loop; a second loop gets one clear error."""
    made_outside = fastrpc.connect("mem://loops")

    async def use(client: fastrpc.Client, result: int) -> None:
        async with serving("mem://loops"):
            assert await client.call("Work.add", 0, result) == result
            await client.aclose()

    for result in (1, 2):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(use(made_outside, result))
        made_outside = fastrpc.connect("mem://loops")


@pytest.mark.parametrize("first_ends", [True, False], ids=["closed", "open"])
def test_a_second_loop_gets_one_clear_error(loop_factory: LoopFactory, first_ends: bool) -> None:
    async def first(client: fastrpc.Client) -> None:
        server = fastrpc.Server()
        server.register(Work())
        await server.start("mem://first")
        await client.call("Work.add", 1, 2)
        if first_ends:
            await client.aclose()
            await server.aclose(0)

    async def second(client: fastrpc.Client) -> None:
        expected: Any = fastrpc.ConnectionLost if first_ends else fastrpc.ConfigError
        words = "is closed" if first_ends else "another event loop"
        with pytest.raises(expected, match=words):
            await client.call("Work.add", 1, 2)
        with pytest.raises(expected, match=words):
            await client.options(timeout=1).stub(Work).add(1, 2)  # type: ignore[misc]
        with pytest.raises(expected, match=words):
            client.notify("Work.add", 1, 2)
        with pytest.raises(expected, match=words):
            await client.ping()
        if first_ends:
            await client.aclose()
        else:
            with pytest.raises(fastrpc.ConfigError, match="another event loop"):
                await client.aclose()

    client = fastrpc.connect("mem://first")
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(first(client))
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(second(client))


def test_without_a_loop_a_call_says_what_to_use() -> None:
    client = fastrpc.connect("mem://nobody")
    with pytest.raises(fastrpc.ConfigError, match="connect_sync"):
        client.call("Work.add", 1, 2)
    with pytest.raises(fastrpc.ConfigError, match="connect_sync"):
        client.notify("Work.add", 1, 2)


@pytest.mark.asyncio
async def test_a_call_from_another_thread_is_refused() -> None:
    async with serving() as (server, _), fastrpc.connect(server.targets[0]) as client:
        caught: list[BaseException] = []

        def use() -> None:
            for action in (client.call, client.notify):
                try:
                    action("Work.add", 1, 2)
                except BaseException as exc:
                    caught.append(exc)

        thread = threading.Thread(target=use)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert [type(exc) for exc in caught] == [fastrpc.ConfigError] * 2
        assert await client.call("Work.add", 1, 2) == 3


# Closing


@pytest.mark.asyncio
async def test_closing_fails_open_calls_and_leaves_nothing(target: str) -> None:
    before = sockets()
    async with serving(target, max_calls=3) as (server, work):
        client = fastrpc.connect(server.targets[0])
        await client.__aenter__()
        running = [client.call("Work.wait", str(n)) for n in range(3)]
        queued = [client.options(timeout=5).call("Work.wait", f"q{n}") for n in range(3)]
        await turn_until(lambda: len(work.runs) == 3)
        await client.aclose()
        for call, ran in [(c, "maybe") for c in running] + [(c, "no") for c in queued]:
            with pytest.raises(fastrpc.ConnectionLost, match="closed") as caught:
                await call
            assert caught.value.ran == ran
        await client.aclose()
        await turn_until(lambda: len(work.ended) == 3)
        assert work.ended == ["0 cancelled", "1 cancelled", "2 cancelled"]
        with pytest.raises(fastrpc.ConnectionLost, match="this client of .* is closed") as after:
            await client.call("Work.add", 1, 2)
        assert after.value.ran == "no"
        for action in (client.ping, client.describe, client.__aenter__):
            with pytest.raises(fastrpc.ConnectionLost, match="is closed"):
                await action()
    await turn_until(lambda: len(asyncio.all_tasks()) == 1)
    await turn_until(lambda: sockets() <= before)
    assert repr(client).endswith(" closed, 0 connected>")


@pytest.mark.asyncio
async def test_two_tasks_may_close() -> None:
    async with serving() as (server, _):
        client = fastrpc.connect(server.targets[0], connections=3)
        await client.call("Work.add", 1, 2)
        await asyncio.gather(client.aclose(), client.aclose(), client.aclose())
        assert client._state is ClientState.CLOSED


@pytest.mark.asyncio
async def test_closing_a_client_that_was_never_used() -> None:
    client = fastrpc.connect("mem://nobody")
    await client.aclose()
    with pytest.raises(fastrpc.ConnectionLost, match="is closed"):
        await client.call("x")


@pytest.mark.asyncio
async def test_a_failed_connect_leaves_nothing() -> None:
    before = sockets()
    with pytest.raises(fastrpc.ConnectFailed, match="mem://nobody"):
        async with fastrpc.connect("mem://nobody"):
            raise AssertionError
    with pytest.raises(fastrpc.ConnectFailed, match=r"can't connect to tcp://127\.0\.0\.1:1 "):
        async with fastrpc.connect("tcp://127.0.0.1:1"):
            raise AssertionError
    await turn_until(lambda: len(asyncio.all_tasks()) == 1)
    assert sockets() <= before


@pytest.mark.asyncio
async def test_an_exception_in_the_block_closes_and_passes() -> None:
    async with serving() as (server, _):
        client = fastrpc.connect(server.targets[0])
        with pytest.raises(KeyError, match="mine"):
            async with client:
                raise KeyError("mine")
        assert client._state is ClientState.CLOSED


@pytest.mark.asyncio
@pytest.mark.slow
async def test_closing_waits_not_for_a_peer_that_reads_nothing() -> None:
    async with serving() as (server, _):
        client = fastrpc.connect(server.targets[0])
        await client.__aenter__()
        (session,) = sessions_of(server)
        assert session._transport is not None
        session._transport.pause_reading()
        call = client.call("Work.size", b"\0" * 16_000_000)
        await turn_until(lambda: client.lanes[0].paused)
        await client.aclose()
        with pytest.raises(fastrpc.ConnectionLost):
            await call


# Several connections


@pytest.mark.asyncio
async def test_connections_share_the_calls() -> None:
    async with serving() as (server, work):
        async with fastrpc.connect(server.targets[0], connections=4) as client:
            await turn_until(lambda: len(client.lanes) == 4)
            calls = [client.call("Work.wait", str(n)) for n in range(8)]
            await turn_until(lambda: len(work.runs) == 8)
            assert sorted(len(session.running) for session in sessions_of(server)) == [2, 2, 2, 2]
            work.gate.set()
            assert await asyncio.gather(*calls) == [str(n) for n in range(8)]


@pytest.mark.asyncio
async def test_a_busy_connection_is_passed_over() -> None:
    async with serving(max_calls=1) as (server, work):
        async with fastrpc.connect(server.targets[0], connections=2) as client:
            await turn_until(lambda: len(client.lanes) == 2)
            held = client.call("Work.wait", "held")
            for n in range(10):
                assert await client.options(timeout=5).call("Work.add", n, n) == 2 * n
            work.gate.set()
            assert await held == "held"


@pytest.mark.asyncio
@pytest.mark.parametrize("calls", [["Arith.add"], [()], [5]])
async def test_gather_takes_tuples(calls: Any) -> None:
    client = fastrpc.connect("mem://nobody")  # looked at before anybody is asked
    async with contextlib.aclosing(client):
        with pytest.raises(fastrpc.InvalidArgument, match="gather: call 1: expected a tuple"):
            await client.gather(calls)


@pytest.mark.asyncio
@pytest.mark.parametrize("interceptors", [print, [5], 7])
async def test_interceptors_are_looked_at_when_they_are_given(interceptors: Any) -> None:
    with pytest.raises(fastrpc.ConfigError, match="interceptor"):
        fastrpc.Server(interceptors=interceptors)
    with pytest.raises(fastrpc.ConfigError, match="interceptor"):
        fastrpc.connect("mem://nobody", interceptors=interceptors)
