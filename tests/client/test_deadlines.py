import asyncio
import random
import re
import signal
import threading
import time

import pytest

import fastrpc
from tests.client.scripted import Peer, scripted
from tests.client.served import Elsewhere, serving, turn_until
from tests.conftest import LoopFactory


@pytest.mark.asyncio
async def test_a_late_handler(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as (server, work), fastrpc.connect(server.targets[0]) as client:
        started = time.monotonic()
        with pytest.raises(TimeoutError) as late:
            await client.options(timeout=0.1).call("Work.wait", "x")
        assert time.monotonic() - started >= 0.1
        error = late.value
        assert isinstance(error, fastrpc.DeadlineExceeded)
        assert (error.method, error.ran, error.attempts) == ("Work.wait", "maybe", 1)
        assert error.address == server.targets[0]
        assert re.match(r"Work\.wait: deadline of 100 ms passed after \d+ ms: ", str(error))
        assert error.stages.total > 0.0999  # a difference of two clock readings
        assert error.stages.connecting == error.stages.queued == 0.0
        await turn_until(lambda: work.ended == ["x cancelled"])
        assert await client.call("Work.add", 1, 2) == 3
    assert caplog.text == ""


@pytest.mark.asyncio
async def test_many_deadlines_are_all_kept() -> None:
    async with serving() as (server, _), fastrpc.connect(server.targets[0]) as client:
        rng = random.Random(1)
        excess: list[float] = []

        async def call(seconds: float) -> None:
            started = time.monotonic()  # uvloop's clock counts milliseconds
            with pytest.raises(fastrpc.DeadlineExceeded):
                await client.options(timeout=seconds).call("Work.wait", "x")
            excess.append(time.monotonic() - started - seconds)

        await asyncio.gather(*(call(rng.uniform(0.01, 0.2)) for _ in range(300)))
        assert len(excess) == 300
        assert min(excess) >= 0.0
        assert len(client.lanes[0].table) == 0


@pytest.mark.asyncio
async def test_the_servers_own_limit_is_not_taken_for_the_callers() -> None:
    async with (
        serving(handler_timeout=0.05) as (server, _),
        fastrpc.connect(server.targets[0]) as client,
    ):
        for view in (client, client.options(timeout=5.0)):
            with pytest.raises(fastrpc.DeadlineExceeded) as limited:
                await view.call("Work.wait", "x")
            error = limited.value
            assert error.ran == "maybe"
            assert error.method == "Work.wait"
            assert "deadline of 0 ms" not in str(error)
            assert "deadline of 5000 ms" not in str(error)
            assert error.stages.handler is not None
            assert error.stages.handler >= 0.05


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_stopped_server_and_late_replies() -> None:
    with Elsewhere() as server:
        async with fastrpc.connect(server.target) as client:
            assert await client.call("Work.echo", "before") == "before"
            server.signal(signal.SIGSTOP)
            started = time.monotonic()
            hurried = client.options(timeout=0.2)
            calls = [hurried.call("Work.echo", n) for n in range(100)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert time.monotonic() - started >= 0.2
            assert {type(error) for error in results} == {fastrpc.DeadlineExceeded}
            server.signal(signal.SIGCONT)
            patient = client.options(timeout=5)
            for n in range(1000):
                assert await patient.call("Work.echo", f"after {n}") == f"after {n}"
            assert client._links[0].attempts == 1


@pytest.mark.slow
def test_replies_that_are_there_win_over_a_loop_that_was_blocked(
    loop_factory: LoopFactory,
) -> None:
    rounds, replied = 5, threading.Semaphore(0)

    def play(peer: Peer) -> None:
        peer.hello()
        for _ in range(rounds):
            for call in [peer.read_call() for _ in range(20)]:
                peer.reply(call, b"\x07")
            replied.release()
        peer.until_end()

    async def main() -> None:
        async with fastrpc.connect(server.target) as client:
            hurried = client.options(timeout=0.05)
            for _ in range(rounds):
                calls = [hurried.call("x") for _ in range(20)]
                due = time.monotonic() + 0.05
                await asyncio.sleep(0)  # they leave
                # The loop stands still until every reply is there and every deadline past.
                assert replied.acquire(timeout=10)
                time.sleep(max(due + 0.01 - time.monotonic(), 0.0))  # noqa: ASYNC251
                assert await asyncio.gather(*calls, return_exceptions=True) == [7] * 20

    with scripted(play) as server, asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


@pytest.mark.asyncio
async def test_a_timeout_of_the_callers_own_is_his() -> None:
    async with serving() as (server, work), fastrpc.connect(server.targets[0]) as client:
        with pytest.raises(TimeoutError) as own:
            async with asyncio.timeout(0.05):
                await client.call("Work.wait", "x")
        assert not isinstance(own.value, fastrpc.FastRPCError)
        await turn_until(lambda: work.ended == ["x cancelled"])


@pytest.mark.asyncio
@pytest.mark.slow
async def test_ping_keeps_a_deadline_and_the_pace() -> None:
    with Elsewhere() as server:
        async with fastrpc.connect(server.target, connect_timeout=3.0) as client:
            assert await client.ping() >= 0.0
            server.signal(signal.SIGSTOP)
            started = time.monotonic()
            with pytest.raises(fastrpc.DeadlineExceeded, match="ping: deadline of 3000 ms"):
                await client.ping()
            assert time.monotonic() - started > 2.9  # uvloop's timers may be early
            server.signal(signal.SIGCONT)
            patient = client.options(timeout=10)
            assert await patient.call("Work.add", 1, 2) == 3
            assert client._links[0].attempts == 1
        async with fastrpc.connect(server.target) as client:
            started = time.monotonic()
            for _ in range(3):  # the server's strikes would end the connection
                await client.ping()
            assert time.monotonic() - started > 0.9  # a second after the first
            assert client._links[0].attempts == 1
