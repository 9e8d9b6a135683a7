"""What a server's interceptors may do to a call, and what becomes of it: all kinds of handlers."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

import fastrpc
from fastrpc.call.deadline import DEADLINE
from tests.policy.served import RESULTS, WAYS, connected, other_items, tracing, wrapping
from tests.server.serving import serving, until

pytestmark = pytest.mark.asyncio

USER: ContextVar[str] = ContextVar("user", default="nobody")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scheme", ["mem", "tcp"])
async def test_the_first_is_outermost_and_replies_pass_in_reverse(scheme: str, way: str) -> None:
    trace: list[str] = []
    three = [tracing(name, trace) for name in ("a", "b", "c")]
    async with connected(scheme=scheme, server=three) as (client, work, _):
        work.look = lambda: trace.append("handler")
        assert await WAYS[way](client) == RESULTS[way]
    passed = [step for step in trace if step != "handler"]
    assert passed == ["a call", "b call", "c call", "c reply", "b reply", "a reply"]
    if way not in ("steps", "gives", "both"):  # a generator begins when its items are wanted
        assert trace.index("handler") == 3


@pytest.mark.parametrize("way", WAYS)
async def test_context_variables_and_state_reach_every_handler(way: str) -> None:
    async def name(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        USER.set(call.metadata.text("user"))
        call.state["user"] = USER.get()
        return await handler(call)

    async with connected(server=[wrapping(name)]) as (client, work, _):
        work.look = USER.get
        for user in ("ann", "bob"):
            await WAYS[way](client.options(metadata={"user": user}))  # type: ignore[arg-type]
        assert work.seen == ["ann", "bob"]
    assert USER.get() == "nobody"


async def test_state_is_one_for_interceptors_and_handler() -> None:
    class Reads:
        def read(self, call: fastrpc.Call = fastrpc.GIVEN) -> list[str]:
            seen = list(call.state)
            call.state["told"] = "by the handler"
            return seen

    seen: list[Any] = []

    async def note(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        call.state["identity"] = "ann"
        reply = await handler(call)
        seen.append(call.state["told"])
        return reply

    async with serving(Reads(), interceptors=[wrapping(note)]) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            assert await client.call("Reads.read") == ["identity"]
    assert seen == ["by the handler"]


# What they put in another's place


async def test_arguments_metadata_and_reply_may_be_replaced() -> None:
    async def change(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        call.args = [call.args[0] + 10]
        call.metadata = {"by": "interceptor"}
        reply = await handler(call)
        return fastrpc.Reply([reply.value, "changed"], metadata={"reply": "changed"})

    class Looks:
        def look(self, n: int, call: fastrpc.Call = fastrpc.GIVEN) -> list[Any]:
            return [n, dict(call.metadata)]

    async with serving(Looks(), interceptors=[wrapping(change)]) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            reply = await client.options(metadata={"by": "caller"}).exchange("Looks.look", 1)
            assert reply.value == [[11, {"by": b"interceptor"}], "changed"]
            assert dict(reply.metadata) == {"reply": b"changed"}


async def test_items_may_be_replaced_in_both_directions() -> None:
    async with connected(server=[wrapping(other_items)]) as (client, work, _):
        assert await WAYS["takes"](client) == 1 + 2 + 3
        assert await WAYS["both"](client) == [102, 104, 106]
        assert await WAYS["gives"](client) == [100, 101, 102]
        async for _item in client.stream("Work.gives", 10**9):
            break
        await until(lambda: len(work.closed) == 2)  # of what was wrapped, too


async def test_the_handler_may_never_be_called() -> None:
    async def items() -> AsyncIterator[int]:
        yield 7

    async def answer(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        gives = call.method in ("Work.steps", "Work.gives", "Work.both")
        return fastrpc.Reply(items=items()) if gives else fastrpc.Reply(7)

    async with connected(server=[wrapping(answer)]) as (client, work, _):
        for way, call in WAYS.items():
            assert await call(client) == ([7] if way in ("steps", "gives", "both") else 7)
        assert not work.runs


@pytest.mark.parametrize("way", ["sync", "inline", "task", "thread", "filled", "steps", "gives"])
async def test_the_handler_may_be_called_twice(way: str) -> None:
    async def twice(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        first = await handler(call)
        if first.items is not None:
            assert await anext(first.items) == 0
        return await handler(call)

    async with connected(server=[wrapping(twice)]) as (client, work, _):
        assert await WAYS[way](client) == RESULTS[way]
        assert work.runs == [way] * 2
        assert work.closed == (["gives"] * 2 if way == "gives" else [])


# What they do wrong


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("given", [None, 5, [1]])
async def test_no_reply_is_a_fault(way: str, given: Any) -> None:
    async def forget(handler: fastrpc.Handler, call: fastrpc.Call) -> Any:
        await handler(call)
        return given

    async with connected(server=[wrapping(forget)]) as (client, _, server):
        with pytest.raises(fastrpc.RemoteError, match="gave .* for a Reply") as caught:
            await WAYS[way](client)
        assert caught.value.type == "Internal"
        assert not server.stats().running


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("after", [False, True])
async def test_one_that_raises_is_a_fault_and_leaves_nothing_open(way: str, after: bool) -> None:
    async def fail(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        if after:
            reply = await handler(call)
            if reply.items is not None:
                await anext(reply.items)
        raise LookupError("a bug")

    async with connected(server=[wrapping(fail)]) as (client, work, server):
        with pytest.raises(fastrpc.RemoteError, match="a bug") as caught:
            await WAYS[way](client)
        assert (caught.value.type, caught.value.ran) == ("LookupError", "yes")
        assert work.closed == (["gives"] if after and way == "gives" else [])
        assert not server.stats().running


async def test_items_for_a_call_without_are_a_fault() -> None:
    async def items() -> AsyncIterator[int]:
        yield 1

    async def give(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        return fastrpc.Reply(items=items())

    async with connected(server=[wrapping(give)]) as (client, _, _server):
        with pytest.raises(fastrpc.RemoteError, match="items for a call without a stream"):
            await client.call("Work.sync", 1)


@pytest.mark.parametrize("reason", ["deadline", "cancel"])
async def test_one_that_is_cancelled_hears_of_it(reason: str) -> None:
    heard: list[str] = []

    async def listen(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        try:
            return await handler(call)
        except asyncio.CancelledError:
            heard.append(call.method)
            raise

    timeout = 0.02 if reason == "deadline" else None
    async with connected(server=[wrapping(listen)], timeout=timeout) as (client, work, server):
        waiting = asyncio.ensure_future(client.call("Work.stuck"))
        await work.entered.wait()
        if reason == "cancel":
            waiting.cancel()
        await asyncio.wait([waiting])
        await until(lambda: not server.stats().running)
    assert heard == ["Work.stuck"]


async def test_one_that_swallows_a_cancel_answers_nobody() -> None:
    async def swallow(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        try:
            return await handler(call)
        except asyncio.CancelledError:
            return fastrpc.Reply("too late")

    async with connected(server=[wrapping(swallow)]) as (client, work, server):
        waiting = asyncio.ensure_future(client.call("Work.stuck"))
        await work.entered.wait()
        waiting.cancel()
        await until(lambda: not server.stats().running)
        assert await client.call("Work.sync", 2) == 4
        assert waiting.cancelled()


async def test_a_thread_that_nobody_waits_for_keeps_its_place() -> None:
    free = threading.Event()

    class Blocks:
        @fastrpc.rpc(blocking=True)
        def wait(self) -> None:
            free.wait(10)

    async def impatient(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        async with asyncio.timeout(0.01):
            return await handler(call)

    interceptors = [wrapping(impatient)]
    async with serving(Blocks(), interceptors=interceptors, max_running=2, threads=2) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            try:
                for _ in range(2):
                    with pytest.raises(fastrpc.RemoteError, match="TimeoutError"):
                        await client.call("Blocks.wait")
                assert server.stats().running == 2
                with pytest.raises(fastrpc.Overloaded, match="max_running"):
                    await client.call("Blocks.wait")
            finally:
                free.set()
            await until(lambda: not server.stats().running)


# Deadlines


class Nests:
    """Handlers that make a call of their own, and tell how long it could have taken."""

    def __init__(self) -> None:
        self.client: fastrpc.Client | None = None

    async def task(self) -> float:
        assert self.client is not None
        return float(await self.client.call("Inner.left"))

    async def exchange(self) -> float:
        assert self.client is not None
        return float((await self.client.exchange("Inner.left")).value)

    @fastrpc.rpc(blocking=True)
    def thread(self) -> float:
        return DEADLINE.get()

    async def gives(self) -> AsyncIterator[float]:
        assert self.client is not None
        yield float(await self.client.call("Inner.left"))
        async for item in self.client.stream("Inner.gives"):
            yield item

    def steps(self) -> Iterator[float]:
        yield DEADLINE.get()

    async def takes(self, items: AsyncIterator[int]) -> float:
        assert self.client is not None
        async for _ in items:
            pass
        return float(await self.client.call("Inner.left"))

    async def back(self, peer: fastrpc.Peer = fastrpc.GIVEN) -> float:
        return float(await peer.call("Inner.left"))


class Inner:
    def left(self, call: fastrpc.Call = fastrpc.GIVEN) -> float:
        return call.deadline

    async def gives(self, call: fastrpc.Call = fastrpc.GIVEN) -> AsyncIterator[float]:
        yield call.deadline


NESTED = {
    "task": lambda client: client.call("Nests.task"),
    "exchange": lambda client: client.call("Nests.exchange"),
    "thread": lambda client: client.call("Nests.thread"),
    "back": lambda client: client.call("Nests.back"),
    "gives": lambda client: _last(client.stream("Nests.gives")),
    "steps": lambda client: _last(client.stream("Nests.steps")),
    "takes": lambda client: _value(client.stream("Nests.takes")),
}


async def _last(stream: Any) -> Any:
    return [item async for item in stream][-1]


async def _value(stream: Any) -> Any:
    async with stream:
        await stream.send(1)
        await stream.end()
        return await stream.result()


def near(seconds: float) -> fastrpc.Interceptor:
    async def hurry(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        call.deadline = min(
            call.deadline or float("inf"), asyncio.get_running_loop().time() + seconds
        )
        return await handler(call)

    return wrapping(hurry)


async def plain(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
    return await handler(call)


async def detach(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
    call.deadline = 0.0
    return await handler(call)


@pytest.mark.parametrize("way", NESTED)
@pytest.mark.parametrize("wrapped", [False, True])
async def test_calls_that_a_handler_makes_have_its_deadline(way: str, wrapped: bool) -> None:
    """With interceptors on all sides or none; the inner client alone would have 900 s or none."""
    chain = [wrapping(plain)] if wrapped else []
    nests = Nests()
    now = asyncio.get_running_loop().time()
    async with (
        serving(nests, interceptors=chain) as outer,
        serving(Inner(), interceptors=chain) as inner,
    ):
        for own in (900.0, None):
            nests.client = fastrpc.connect(inner.targets[0], timeout=own, interceptors=chain)
            client = fastrpc.connect(outer.targets[0], timeout=60.0, interceptors=chain)
            client.register(Inner())
            async with nests.client, client:
                assert now + 50 < await NESTED[way](client) < now + 70


@pytest.mark.parametrize("way", NESTED)
async def test_they_have_the_one_that_an_interceptor_made_of_it(way: str) -> None:
    nests = Nests()
    now = asyncio.get_running_loop().time()
    async with serving(nests, interceptors=[near(20)]) as outer, serving(Inner()) as inner:
        nests.client = fastrpc.connect(inner.targets[0], timeout=900.0)
        client = fastrpc.connect(outer.targets[0], timeout=60.0)
        client.register(Inner())
        async with nests.client, client:
            assert now + 10 < await NESTED[way](client) < now + 30


@pytest.mark.parametrize("way", ["task", "thread", "gives", "back"])
async def test_an_interceptor_may_let_them_go_on(way: str) -> None:
    nests = Nests()
    async with serving(nests, interceptors=[wrapping(detach)]) as outer, serving(Inner()) as inner:
        nests.client = fastrpc.connect(inner.targets[0])
        client = fastrpc.connect(outer.targets[0], timeout=60.0)
        client.register(Inner())
        async with nests.client, client:
            assert await NESTED[way](client) == 0.0


async def test_a_deadline_can_not_be_put_off() -> None:
    async def later(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        call.deadline += 1000
        return await handler(call)

    async with connected(server=[wrapping(later)], timeout=0.02) as (client, _, server):
        with pytest.raises(fastrpc.DeadlineExceeded):
            await client.call("Work.stuck")
        await until(lambda: not server.stats().running)


async def test_a_connection_made_in_a_call_does_not_inherit_for_ever() -> None:
    """Loops run callbacks in the context in which a connection was made: that of an old call."""

    class Makes:
        def __init__(self) -> None:
            self.client: fastrpc.Client | None = None

        async def connect(self, target: str) -> None:
            self.client = fastrpc.connect(target)
            self.client.register(Told())
            await self.client.call("Asks.ready")

    class Told:
        async def deadline(self) -> float:
            await asyncio.sleep(0)
            return DEADLINE.get()

    class Asks:
        def ready(self) -> None: ...

    makes = Makes()
    async with serving(makes) as outer, serving(Asks()) as inner:
        async with fastrpc.connect(outer.targets[0], timeout=30.0) as client:
            await client.call("Makes.connect", inner.targets[0])
            assert await inner.peers[0].call("Told.deadline") == 0.0
            assert makes.client is not None
            await makes.client.aclose()


class Blocks:
    def __init__(self) -> None:
        self.go = threading.Event()
        self.runs = 0

    @fastrpc.rpc(blocking=True)
    def hold(self) -> str:
        self.runs += 1
        self.go.wait(30)
        return "held"


async def test_all_threads_of_a_call_that_is_tried_again_keep_its_place() -> None:
    async def impatient(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        for _ in range(2):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    return await handler(call)
        raise fastrpc.Unavailable("too slow")

    blocks = Blocks()
    async with serving(blocks, interceptors=[wrapping(impatient)]) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            with pytest.raises(fastrpc.Unavailable):
                await client.call("Blocks.hold")
            assert blocks.runs == 2
            assert server.stats().running == 1
            blocks.go.set()
            await until(lambda: server.stats().running == 0)
