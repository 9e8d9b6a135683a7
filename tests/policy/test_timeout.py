import asyncio

import pytest

import fastrpc
from fastrpc import policy
from fastrpc.call import Call, Reply
from tests.policy.served import RESULTS, WAYS, Clock, connected
from tests.server.serving import until


async def after(interceptor: fastrpc.Interceptor, deadline: float) -> float:
    """Return what *interceptor* makes of a deadline."""

    async def handler(call: Call) -> Reply:
        return Reply(call.deadline)

    reply = await interceptor(handler)(Call("A.b", (), {}, deadline=deadline))
    return float(reply.value)


@pytest.mark.asyncio
async def test_what_becomes_of_a_deadline() -> None:
    clock = Clock()
    longest = policy.max_timeout(5, clock=clock)
    assert await after(longest, 0.0) == 1005.0
    assert await after(longest, 1004.0) == 1004.0
    assert await after(longest, 1006.0) == 1005.0
    default = policy.default_timeout(5, clock=clock)
    assert await after(default, 0.0) == 1005.0
    assert await after(default, 1004.0) == 1004.0
    assert await after(default, 1006.0) == 1006.0


@pytest.mark.asyncio
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scheme", ["mem", "tcp"])
async def test_calls_that_are_quick_enough(scheme: str, way: str) -> None:
    limits = [policy.max_timeout(30), policy.default_timeout(30)]
    async with connected(scheme=scheme, server=limits, client=limits) as (client, _, _server):
        assert await WAYS[way](client) == RESULTS[way]


@pytest.mark.asyncio
@pytest.mark.parametrize("asked", [None, 60.0])
@pytest.mark.parametrize("method", ["stuck", "stuck_stream", "stuck_taking"])
@pytest.mark.parametrize("scheme", ["mem", "tcp"])
async def test_the_server_stops_what_takes_longer(
    scheme: str, method: str, asked: float | None
) -> None:
    limit = policy.max_timeout(0.02)
    async with connected(scheme=scheme, server=[limit], timeout=asked) as (client, work, server):
        with pytest.raises(fastrpc.DeadlineExceeded, match="stopped after") as caught:
            if method == "stuck":
                await client.call("Work.stuck")
            else:
                async with client.stream(f"Work.{method}") as stream:
                    if method == "stuck_taking":
                        await stream.send(1)
                    await stream.result()
        assert caught.value.status == 51
        assert caught.value.stages.handler >= 0.02
        await until(lambda: not server.stats().running)
        assert work.runs == [method]


@pytest.mark.asyncio
async def test_a_nearer_deadline_of_the_caller_stays() -> None:
    async with connected(server=[policy.max_timeout(60)], timeout=0.02) as (client, _, server):
        with pytest.raises(fastrpc.DeadlineExceeded, match="deadline of 20 ms"):
            await client.call("Work.stuck")
        await until(lambda: not server.stats().running)


@pytest.mark.asyncio
async def test_a_thread_goes_on_and_its_caller_does_not() -> None:
    import threading

    free = threading.Event()

    class Blocks:
        @fastrpc.rpc(blocking=True)
        def wait(self) -> None:
            free.wait(10)

    async with connected(server=[policy.max_timeout(0.02)]) as (client, _, server):
        server.register(Blocks())
        try:
            with pytest.raises(fastrpc.DeadlineExceeded):
                await client.call("Blocks.wait")
            assert server.stats().running == 1  # it holds its place until it has really ended
        finally:
            free.set()
        await until(lambda: not server.stats().running)


@pytest.mark.asyncio
@pytest.mark.parametrize("interceptor", [policy.max_timeout(0.02), policy.default_timeout(0.02)])
async def test_a_client_gives_up_what_has_no_deadline(interceptor: fastrpc.Interceptor) -> None:
    async with connected(client=[interceptor]) as (client, _, server):
        with pytest.raises(fastrpc.DeadlineExceeded):
            await client.call("Work.stuck")
        with pytest.raises(fastrpc.DeadlineExceeded):
            async for _ in client.stream("Work.stuck_stream"):
                pass
        await until(lambda: not server.stats().running)


@pytest.mark.asyncio
async def test_a_default_does_not_shorten() -> None:
    async with connected(client=[policy.default_timeout(0.001)], timeout=30) as (client, work, _):
        waiting = asyncio.ensure_future(client.call("Work.stuck"))
        await work.entered.wait()
        await asyncio.wait([waiting], timeout=0.02)
        assert not waiting.done()
        waiting.cancel()


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_seconds_that_make_no_sense(seconds: float) -> None:
    for make in (policy.max_timeout, policy.default_timeout):
        with pytest.raises(fastrpc.ConfigError, match="seconds"):
            make(seconds)
