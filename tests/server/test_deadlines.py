"""Deadlines, the handler timeout, and cancels: who is stopped, and who is told."""

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

import fastrpc
from fastrpc.frame import encode_frame
from fastrpc.protocol import decode_option
from fastrpc.wire import Kind
from tests.adversity.raw_peer import RawPeer, call, hello_frame, message, pack
from tests.server.serving import serving, until

CALM = logging.getLogger("tests.calm")
pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("both_twins")]


class Timed:
    """Handlers that take their time."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.leave = asyncio.Event()
        self.free = threading.Event()

    def add(self, a: int, b: int) -> int:
        return a + b

    def block(self, seconds: float) -> str:
        self.log.append("block")
        time.sleep(seconds)
        return "blocked"

    async def forever(self) -> None:
        self.log.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            self.log.append("ended")

    async def stubborn(self) -> str:
        self.log.append("began")
        while not self.leave.is_set():
            try:
                await self.leave.wait()
            except asyncio.CancelledError:
                self.log.append("refused")
        return "late"

    async def raises_on_the_way_out(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("on the way out")

    async def slow_on_the_way_out(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.log.append("cleaning up")
            await self.leave.wait()
            self.log.append("cleaned up")

    @fastrpc.rpc(blocking=True)
    def thread(self) -> str:
        self.log.append("began")
        self.free.wait(10)
        return "late"

    async def quick(self) -> str:
        await asyncio.sleep(0)
        return "in time"


def name(method: str) -> bytes:
    return f"Timed.{method}".encode()


def timed(id: int, method: str, millis: int = 0, args: Any = ()) -> bytes:
    return call(id, name(method), pack(list(args)), time=millis)


# --------------------------------------------------------------------- deadlines


async def test_a_handler_past_its_deadline_is_cancelled_and_its_caller_told() -> None:
    service = Timed()
    async with serving(service, log=CALM) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            started = time.monotonic()
            peer.send(timed(1, "forever", 250))
            reply = await peer.reply(1)
            assert (reply.status, reply.payload != b"") == (51, True)
            assert "Timed.forever: stopped after" in message(reply)
            assert time.monotonic() - started >= 0.25
            assert reply.time >= 250_000
            await until(lambda: service.log == ["began", "ended"] and not server.stats().running)
            assert server.stats().methods["Timed.forever"] == (1, 1)


async def test_each_of_many_deadlines_is_kept() -> None:
    async with serving(Timed(), log=CALM) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            started = time.monotonic()
            millis = {id: 20 + (id * 37) % 100 for id in range(1, 30)}
            peer.send(*(timed(id, "forever", left) for id, left in millis.items()))
            for _ in millis:
                reply = await peer.frame()
                assert reply is not None
                spent = (time.monotonic() - started) * 1000
                assert spent >= millis[reply.id]


async def test_a_call_whose_time_is_up_before_its_turn_is_not_run() -> None:
    service = Timed()
    async with serving(service, log=CALM) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            # All in one read: the first takes all the time that the others have.
            peer.send(
                timed(1, "block", 60_000, [0.05])
                + timed(2, "block", 20, [0.0])
                + timed(3, "add", 20, [2, 3])
                + timed(4, "forever", 20)
                + timed(5, "add", 60_000, [2, 3])
            )
            replies = {id: await peer.reply(id) for id in range(1, 6)}
            assert [replies[id].status for id in range(1, 6)] == [0, 51, 51, 51, 0]
            assert "before the handler was started" in message(replies[2])
            assert service.log == ["block"]


async def test_a_task_that_is_late_before_its_first_step_is_not_run() -> None:
    service = Timed()
    async with serving(service, log=CALM) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            # The first has 20 ms, and its task waits behind the other, which blocks the loop.
            peer.send(timed(1, "forever", 20) + timed(2, "block", 0, [0.05]))
            replies = [await peer.frame(), await peer.frame()]
            assert {frame.id: frame.status for frame in replies if frame} == {1: 51, 2: 0}
    # Where tasks begin eagerly it has begun before the block, and is stopped after it.
    assert service.log in (["block"], ["began", "block", "ended"])


async def test_a_stubborn_handler_is_answered_for_and_counted() -> None:
    service = Timed()
    async with serving(service, log=CALM, max_calls=1) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            peer.send(timed(1, "stubborn", 250))
            assert (await peer.reply(1)).status == 51
            await until(lambda: "refused" in service.log)
            assert server.stats().running == 1
            peer.send(timed(2, "quick"))
            assert (await peer.reply(2)).status == 52
            service.leave.set()
            await until(lambda: not server.stats().running)
            peer.send(timed(3, "quick"))
            assert (await peer.reply(3)).status == 0
            assert service.log.count("refused") == 1
            assert await peer.until_pong(1) == []  # the late result went nowhere


async def test_what_a_late_handler_raises_reaches_the_log_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(Timed()) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            peer.send(timed(1, "raises_on_the_way_out", 250))
            assert (await peer.reply(1)).status == 51
            await until(lambda: not server.stats().running)
            assert await peer.until_pong(1) == []
    assert "raised after it was given up" in caplog.text


async def test_a_thread_past_its_deadline_is_answered_for_and_counted() -> None:
    service = Timed()
    async with serving(service, log=CALM, threads=1) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            peer.send(timed(1, "thread", 500))
            assert (await peer.reply(1)).status == 51
            assert server.stats().running == 1
            # The next waits for the one thread, and is told off before it is begun.
            peer.send(timed(2, "thread", 30))
            assert (await peer.reply(2)).status == 51
            service.free.set()
            await until(lambda: not server.stats().running)
            assert service.log == ["began"]
            assert await peer.until_pong(1) == []


# ----------------------------------------------------------------- handler_timeout


@pytest.mark.parametrize("millis", [0, 60_000], ids=["no deadline", "a long one"])
async def test_the_handler_timeout_stops_what_takes_longer(millis: int) -> None:
    service = Timed()
    async with serving(service, log=CALM, handler_timeout=0.25) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            peer.send(timed(1, "forever", millis), timed(2, "quick", millis))
            assert (await peer.reply(2)).status == 0
            assert (await peer.reply(1)).status == 51
            await until(lambda: service.log == ["began", "ended"])


async def test_a_deadline_before_the_handler_timeout_counts() -> None:
    async with serving(Timed(), log=CALM, handler_timeout=600.0) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            peer.send(timed(1, "forever", 30))
            assert (await peer.reply(1)).status == 51


async def test_a_client_without_a_deadline_is_told_what_stopped_it() -> None:
    async with serving(Timed(), log=CALM, handler_timeout=0.03) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            with pytest.raises(fastrpc.DeadlineExceeded, match="stopped after") as caught:
                await client.call("Timed.forever")
            assert (caught.value.stages.handler or 0) >= 0.03
            assert caught.value.ran == "maybe"


async def test_hello_tells_the_handler_timeout() -> None:
    async with serving(Timed(), log=CALM, handler_timeout=1.5) as server:
        async with await RawPeer.connect(server.targets[0]) as peer:
            peer.send(hello_frame())
            answer = await peer.frame()
            assert answer is not None
            assert decode_option(answer.payload, True).handle_ms == 1500


async def test_no_timer_runs_once_nobody_needs_one() -> None:
    async with serving(Timed(), log=CALM) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            peer.send(*(timed(id, "quick", 60_000) for id in range(1, 50)))
            for id in range(1, 50):
                await peer.reply(id)
            side = server._side
            assert side is not None
            assert not side.ticker._busy
            (session,) = server._hall.sessions
            timer = session._timer
            peer.send(timed(50, "quick", 70_000))
            await peer.reply(50)
            assert session._timer is timer  # one for all: the first is the soonest
        await until(lambda: not server.stats().connections)
        assert timer is None or timer.cancelled()


# ----------------------------------------------------------------------- cancels


async def test_a_cancel_reaches_the_handler_and_is_not_answered() -> None:
    service = Timed()
    async with serving(service, log=CALM) as server:
        async with await RawPeer.greeted(server.targets[0]) as peer:
            peer.send(timed(1, "forever"), timed(2, "slow_on_the_way_out"))
            await until(lambda: server.stats().running == 2)
            peer.send(
                encode_frame(Kind.CANCEL, 1, status=42),
                encode_frame(Kind.CANCEL, 2, status=41),
                encode_frame(Kind.CANCEL, 2, status=42),  # again, while it cleans up
            )
            assert await peer.until_pong(1) == []
            service.leave.set()
            await until(lambda: not server.stats().running)
            assert service.log == ["began", "ended", "cleaning up", "cleaned up"]
            assert await peer.until_pong(2) == []


async def test_a_cancelled_caller_cancels_the_handler() -> None:
    service = Timed()
    async with serving(service, log=CALM) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            calling = asyncio.ensure_future(client.call("Timed.forever"))
            await until(lambda: service.log == ["began"])
            calling.cancel()
            await until(lambda: service.log == ["began", "ended"])
            assert await client.call("Timed.quick") == "in time"
            with pytest.raises(asyncio.CancelledError):
                await calling


async def test_a_handler_that_cleans_up_is_cancelled_once_when_its_client_goes(
    quick_ticks: None,
) -> None:
    service = Timed()
    async with serving(service, log=CALM) as server:
        peer = await RawPeer.greeted(server.targets[0])
        peer.send(timed(1, "slow_on_the_way_out"))
        await until(lambda: server.stats().running == 1)
        peer.send(encode_frame(Kind.CANCEL, 1, status=42))
        await until(lambda: service.log == ["cleaning up"])
        peer.writer.transport.abort()
        await until(lambda: not server.stats().connections)
        service.leave.set()
        await until(lambda: not server.stats().running)
        assert service.log == ["cleaning up", "cleaned up"]


# -------------------------------------------------------------------- half-closed


@pytest.mark.parametrize("scheme", ["tcp", "unix", "mem"])
async def test_who_only_sends_no_more_still_gets_every_answer(
    scheme: str, tmp_path: Any, quick_ticks: None
) -> None:
    target = {"tcp": "tcp://127.0.0.1:0", "unix": f"unix://{tmp_path}/s", "mem": "mem://half"}
    service = Timed()
    async with serving(service, target[scheme], log=CALM) as server:
        peer = await RawPeer.greeted(server.targets[0], ping_ms=10)
        async with peer:
            peer.send(timed(1, "add", 0, [2, 3]), timed(2, "stubborn"), timed(3, "quick"))
            peer.writer.write_eof()
            assert [(await peer.reply(id)).status for id in (1, 3)] == [0, 0]
            for _ in range(3):  # its pings go unanswered, and that is fine
                ping = await peer.frame()
                assert ping is not None
                assert ping.heartbeat
            service.leave.set()
            assert (await peer.reply(2)).status == 0
            assert [frame for frame in await peer.rest() if not frame.heartbeat] == []
