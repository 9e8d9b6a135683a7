"""What a client's interceptors may do to a call, and what becomes of it: calls and streams."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

import fastrpc
from fastrpc.session.stream import StreamState
from tests.policy.served import (
    RESULTS,
    WAYS,
    Work,
    connected,
    numbers,
    other_items,
    tracing,
    wrapping,
)
from tests.server.serving import until

pytestmark = pytest.mark.asyncio

UNARY = ("sync", "inline", "task", "thread", "filled")
STREAMS = ("steps", "gives", "takes", "both")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scheme", ["mem", "tcp"])
async def test_the_first_is_outermost_and_replies_pass_in_reverse(scheme: str, way: str) -> None:
    trace: list[str] = []
    three = [tracing(name, trace) for name in ("a", "b", "c")]
    async with connected(scheme=scheme, client=three) as (client, work, _):
        work.look = lambda: trace.append("handler")
        assert await WAYS[way](client) == RESULTS[way]
        assert work.runs == [way]
    passed = [step for step in trace if step != "handler"]
    assert passed == ["a call", "b call", "c call", "c reply", "b reply", "a reply"]
    if way in UNARY:
        assert trace.index("handler") == 3


async def test_every_way_to_call_passes_but_for_notify() -> None:
    trace: list[str] = []
    async with connected(client=[tracing("a", trace)]) as (client, work, _):
        await client.call("Work.sync", 1)
        await client.stub(type(work)).sync(1)  # type: ignore[misc, arg-type]
        await client.options(timeout=5).call("Work.sync", 1)
        await client.exchange("Work.sync", 1)
        assert await client.gather([("Work.sync", 1), ("Work.sync", 2)]) == [2, 4]
        assert trace.count("a call") == trace.count("a reply") == 6
        client.notify("Work.sync", 1)
        await client.ping()
        assert trace.count("a call") == 6
        await until(lambda: len(work.runs) == 7)


async def test_arguments_method_metadata_and_reply_may_be_replaced() -> None:
    class Looks:
        def look(self, n: int, call: fastrpc.Call = fastrpc.GIVEN) -> list[Any]:
            call.reply_metadata = {"x": "server"}
            return [n, dict(call.metadata)]

    async def change(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        call.method, call.args = "Looks.look", [call.args[0] + 1]
        call.add_metadata({"by": "interceptor"})
        reply = await handler(call)
        assert dict(reply.metadata) == {"x": b"server"}
        reply.metadata = {"x": "changed"}
        reply.value = [reply.value]
        return reply

    async with connected(client=[wrapping(change)], metadata={"a": "1"}) as (client, _, server):
        server.register(Looks())
        reply = await client.exchange("Other.name", 1)
        assert reply.value == [[2, {"a": b"1", "by": b"interceptor"}]]
        assert dict(reply.metadata) == {"x": b"changed"}


async def test_items_may_be_replaced_in_both_directions() -> None:
    async with connected(client=[wrapping(other_items)]) as (client, _, _server):
        assert await WAYS["takes"](client) == 1 + 2 + 3
        assert await WAYS["gives"](client) == [100, 101, 102]
        # What is sent one by one, or fed, passes no interceptor; what comes does.
        assert await WAYS["both"](client) == [100, 102, 104]


@pytest.mark.parametrize("way", UNARY)
async def test_a_call_may_be_answered_here_or_sent_twice(way: str) -> None:
    async def answer(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        return fastrpc.Reply("from here")

    async def twice(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        await handler(call)
        return await handler(call)

    async with connected(client=[wrapping(answer)]) as (client, work, _):
        assert await WAYS[way](client) == "from here"
        assert not work.runs
    async with connected(client=[wrapping(twice)]) as (client, work, _):
        assert await WAYS[way](client) == RESULTS[way]
        assert work.runs == [way] * 2


@pytest.mark.parametrize("way", STREAMS)
async def test_a_stream_has_to_be_opened_once(way: str) -> None:
    async def items() -> AsyncIterator[int]:
        yield 1

    async def answer(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        return fastrpc.Reply(items=items())

    async def twice(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        await handler(call)
        return await handler(call)

    async def drop(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        await handler(call)
        return fastrpc.Reply()

    for wrong, text in ((answer, "did not open"), (twice, "twice"), (drop, "did not open")):
        async with connected(client=[wrapping(wrong)]) as (client, _, server):
            with pytest.raises(fastrpc.Internal, match=text):
                await WAYS[way](client)
            await until(lambda server=server: not server.stats().running)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("given", [None, 5])
async def test_no_reply_is_a_fault_with_a_name(way: str, given: Any) -> None:
    async def forget(handler: fastrpc.Handler, call: fastrpc.Call) -> Any:
        await handler(call)
        return given

    async with connected(client=[wrapping(forget)]) as (client, _, server):
        with pytest.raises(fastrpc.Internal, match=rf"Work\.{way} gave .* for a Reply"):
            await WAYS[way](client)
        if way in UNARY:
            with pytest.raises(fastrpc.Internal, match="for a Reply"):
                await client.exchange(f"Work.{way}", 1)
        await until(lambda: not server.stats().running)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("after", [False, True])
async def test_what_one_raises_its_caller_gets_and_nothing_stays_open(
    way: str, after: bool
) -> None:
    async def fail(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        if after:
            await handler(call)
        raise LookupError("a bug")

    async with connected(client=[wrapping(fail)]) as (client, work, server):
        with pytest.raises(LookupError, match="a bug"):
            await WAYS[way](client)
        assert bool(work.runs) is after or way in STREAMS
        await until(lambda: not server.stats().running)


async def test_a_stream_that_was_refused_after_it_opened_is_new_again() -> None:
    tries: list[int] = []

    async def fail(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        tries.append(1)
        reply = await handler(call)
        if len(tries) == 1:
            raise LookupError("at first")
        return reply

    async with connected(client=[wrapping(fail)]) as (client, _, server):
        stream = client.stream("Work.gives", 3)
        with pytest.raises(LookupError):
            await anext(aiter(stream))
        assert stream.state is StreamState.NEW
        await until(lambda: not server.stats().running)
        assert [item async for item in stream] == [0, 1, 2]


async def test_one_is_cancelled_with_its_call_and_the_server_told() -> None:
    heard: list[str] = []

    async def listen(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        try:
            return await handler(call)
        except asyncio.CancelledError:
            heard.append(call.method)
            raise

    async with connected(client=[wrapping(listen)]) as (client, work, server):
        for way in ("call", "exchange"):
            work.entered.clear()
            waiting = asyncio.ensure_future(getattr(client, way)("Work.stuck"))
            await work.entered.wait()
            waiting.cancel()
            await asyncio.wait([waiting])
            await until(lambda: not server.stats().running)
    assert heard == ["Work.stuck"] * 2


async def plain(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
    return await handler(call)


async def again(items: Any) -> AsyncIterator[Any]:
    async for item in items:
        yield item


async def wrapped(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
    reply = await handler(call)
    reply.items = again(reply.items)
    return reply


@pytest.mark.parametrize("interceptor", [plain, wrapped])
async def test_a_stream_that_nobody_holds_is_given_up_without_the_collector(
    interceptor: Any,
) -> None:
    async with connected(client=[wrapping(interceptor)]) as (client, work, server):
        gc.disable()
        try:
            async for item in client.stream("Work.gives", 10**9):
                if item == 3:
                    break
            await until(lambda: work.closed)
            assert not server.stats().running
        finally:
            gc.enable()


async def test_a_stream_that_is_left_closes_what_interceptors_made() -> None:
    closed: list[str] = []

    async def noting(items: Any) -> AsyncIterator[Any]:
        try:
            async for item in items:
                yield item
        finally:
            closed.append("wrapper")

    async def wrap(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        reply = await handler(call)
        reply.items = noting(reply.items)
        return reply

    async with connected(client=[wrapping(wrap)]) as (client, _, server):
        async with client.stream("Work.gives", 10**9) as stream:
            assert await anext(aiter(stream)) == 0
        assert closed == ["wrapper"]
        await until(lambda: not server.stats().running)


async def test_the_value_of_a_stream_with_interceptors() -> None:
    async with connected(client=[wrapping(wrapped)]) as (client, _, _server):
        async with client.stream("Work.takes") as stream:
            await stream.feed(numbers(5))
            assert await stream.result() == 10
            assert await stream.result() == 10
        async with client.stream("Work.gives", 3) as stream:
            waiting = asyncio.ensure_future(stream.result())
            assert [item async for item in stream] == [0, 1, 2]  # the result takes none of them
            assert await waiting is None


async def test_a_retry_of_a_refused_call_keeps_the_one_deadline() -> None:
    refused: list[str] = []

    async def refuse(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        refused.append(call.method)
        if len(refused) < 3:
            raise fastrpc.Overloaded("not now", retry_after=0.0)
        return await handler(call)

    deadlines: list[float] = []

    async def retry(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        while True:
            deadlines.append(call.deadline)
            try:
                return await handler(call)
            except fastrpc.CallError as error:
                if error.ran != "no":
                    raise

    ends = {"server": [wrapping(refuse)], "client": [wrapping(retry)]}
    async with connected(**ends, timeout=30.0) as (client, work, _):
        assert await client.call("Work.sync", 1) == 2
        assert len(deadlines) == 3
        assert len(set(deadlines)) == 1
        assert work.runs == ["sync"]


@pytest.mark.parametrize("way", WAYS)
async def test_what_an_interceptor_keeps_past_the_deadline_is_not_sent(way: str) -> None:
    async def dawdle(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        call.deadline = time.monotonic() - 1.0
        return await handler(call)

    async with connected(client=[wrapping(dawdle)]) as (client, work, _):
        with pytest.raises(fastrpc.DeadlineExceeded, match="before the call was sent") as caught:
            await WAYS[way](client)
        assert caught.value.ran == "no"
        assert not work.runs


@pytest.mark.parametrize("wait", [0, 1])
@pytest.mark.parametrize("way", WAYS)
async def test_no_handler_is_called_past_the_deadline(way: str, wait: int) -> None:
    async def dawdle(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        for _ in range(wait):
            await asyncio.sleep(0)
        call.deadline = time.monotonic() - 1.0
        return await handler(call)

    async with connected(server=[wrapping(dawdle)]) as (client, work, _):
        with pytest.raises(fastrpc.DeadlineExceeded, match="before the handler was called"):
            await WAYS[way](client)
        assert not work.runs


@pytest.mark.parametrize("way", ["sync", "inline", "task", "filled"])
async def test_items_in_reply_to_a_plain_call_are_an_error_each_time(way: str) -> None:
    async def mistake(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        return fastrpc.Reply(items=numbers(3))

    async with connected(server=[wrapping(mistake)]) as (client, _, _):
        for _ in range(3):
            with pytest.raises(fastrpc.CallError, match="items for a call without a stream"):
                await WAYS[way](client)


@pytest.mark.parametrize("ask", ["exchange", "stream"])
async def test_a_place_in_line_that_is_not_used_is_the_nexts(ask: str) -> None:
    async with connected() as (client, work, _):
        held = [asyncio.ensure_future(client.call("Work.stuck"))]
        await work.entered.wait()
        lane = client.lanes[0]
        lane.peer_calls = 1
        bad: Any = (
            client.exchange("Work.sync", object())
            if ask == "exchange"
            else client.stream("Work.gives", object()).result()
        )
        wrong = asyncio.ensure_future(bad)
        await asyncio.sleep(0)
        right = asyncio.ensure_future(client.call("Work.sync", 3))
        await asyncio.sleep(0)
        held[0].cancel()
        with pytest.raises(fastrpc.CodecError):
            await wrong
        async with asyncio.timeout(10):
            assert await right == 6


async def test_to_cancel_who_closes_a_stream_is_not_lost() -> None:
    begun, leave = asyncio.Event(), asyncio.Event()

    async def slow_to_leave() -> AsyncIterator[int]:
        try:
            yield 1
            begun.set()
            await asyncio.Event().wait()
        finally:
            await leave.wait()

    async with connected() as (client, _, _):
        stream = client.stub(Work).both(slow_to_leave())
        async for _ in stream:
            await begun.wait()
            break
        closing = asyncio.ensure_future(stream.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        leave.set()
