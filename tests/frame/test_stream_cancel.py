"""Cancelled at any step, a pump, a sender or a reader leaves the stream as it found it."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fastrpc.errors import StreamEnded
from tests.frame.halves import Job, Receiver, Sender, settle
from tests.frame.rig import Rig, Waiter, pack


@pytest.fixture
def rig(twin: SimpleNamespace) -> Rig:
    return Rig(twin)


class Pause:
    """What a generator awaits that gives up its turn."""

    def __await__(self) -> Any:
        yield


class Source:
    """A generator of items that waits before and after each, and notes how it ended.

    Args:
        count: How many.
        size: Of each.
    """

    def __init__(self, count: int = 4, size: int = 1) -> None:
        self.count, self.size = count, size
        self.log: list[str] = []

    async def items(self) -> AsyncIterator[str]:
        try:
            for n in range(self.count):
                await Pause()
                yield f"{n}" * self.size
            await Pause()
        except asyncio.CancelledError:
            self.log.append("cancelled")
            raise
        finally:
            self.log.append("closed")
            await Pause()


async def feeding(sender: Sender, source: Source) -> bool:
    """Do as the owners of pumps do: close the generator whatever happens."""
    items = source.items()
    try:
        return bool(await sender.outlet.pump(items))
    finally:
        await items.aclose()  # type: ignore[attr-defined]


def still_works(sender: Sender) -> None:
    """Nobody stands in line, and whoever comes now is served."""
    sender.outlet.grant(100_000)
    sender.rig.lane.paused = False
    sender.outlet.wake()
    sender.gone()
    late = Job(sender.outlet.send("late")).step()
    assert late.told == ("returned", None)
    assert sender.gone() == ["late"]
    assert sender.outlet.may_put


SITES: dict[str, Callable[[Sender], None]] = {
    "credit": lambda sender: None,
    "no credit": lambda sender: None,
    "paused": lambda sender: setattr(sender.rig.lane, "paused", True),
    "turns": lambda sender: None,
}


@pytest.mark.parametrize("site", SITES)
def test_a_pump_cancelled_at_each_of_its_waits(rig: Rig, site: str) -> None:
    """In the generator's own await, for credit, for the transport, for the loop's turn."""
    at = cancelled = 0
    while True:
        sender = Sender(Rig(rig.twin), credit={"no credit": 0, "turns": 2**30}.get(site, 1000))
        SITES[site](sender)
        source = Source(3, size=70_000 if site == "turns" else 1)
        job = Job(feeding(sender, source)).step()
        for _ in range(at):
            if not job.can_go:
                sender.outlet.grant(21)
                sender.outlet.wake()
                sender.rig.lane.paused = False
            job.step()
        if job.told:
            break
        job.cancel()
        settle(job)
        assert job.told[:2] == ("raised", "CancelledError")
        assert source.log.count("closed") == 1
        still_works(sender)
        at += 1
        cancelled += 1
    assert job.told == ("returned", True)
    assert cancelled >= 5


@pytest.mark.parametrize("victim", range(4))
@pytest.mark.parametrize("when", ["waiting", "woken", "closed", "twice"])
def test_a_sender_cancelled_in_line_lets_the_others_go(rig: Rig, victim: int, when: str) -> None:
    sender = Sender(rig, credit=0)
    jobs = [Job(sender.outlet.send(n)).step() for n in range(4)]
    if when == "woken":  # the credit is for the one who does not come any more
        sender.outlet.grant(1)
    elif when == "closed":
        sender.outlet.close(StreamEnded("x"))
    jobs[victim].cancel()
    if when == "twice":
        jobs[victim].step()
        jobs[(victim + 1) % 4].cancel()
    settle(*jobs)
    assert jobs[victim].told[1] == "CancelledError"
    if when == "closed":
        assert [job.told[1] for job in jobs].count("StreamEnded") == 3
        return
    sender.outlet.grant(1000)
    settle(*jobs)
    gone = {victim, (victim + 1) % 4} if when == "twice" else {victim}
    assert sender.gone() == [n for n in range(4) if n not in gone]
    still_works(sender)


def test_all_senders_cancelled_at_once(rig: Rig) -> None:
    sender = Sender(rig, credit=0)
    jobs = [Job(sender.outlet.send(n)).step() for n in range(5)]
    for job in jobs:
        job.cancel()
    settle(*reversed(jobs))
    assert {job.told[1] for job in jobs} == {"CancelledError"}
    still_works(sender)


def test_a_sender_cancelled_while_held_hands_the_wake_on(rig: Rig) -> None:
    """The owner wakes the stream once; whoever got it and has gone must not keep it."""
    sender = Sender(rig)
    rig.lane.paused = True
    first, second = (Job(sender.outlet.send(n)).step() for n in range(2))
    rig.owner.held.clear()
    rig.lane.paused = False
    sender.outlet.wake()
    first.cancel()
    settle(first, second)
    assert (first.told[1], second.told) == ("CancelledError", ("returned", None))


def test_a_sender_that_is_dropped_leaves_the_line(rig: Rig) -> None:
    """As when the loop is torn down: closed, not cancelled."""
    sender = Sender(rig, credit=0)
    jobs = [Job(sender.outlet.send(n)).step() for n in range(3)]
    jobs[0].close()
    del jobs[0]
    sender.outlet.grant(1000)
    settle(*jobs)
    assert sender.gone() == [1, 2]
    still_works(sender)


@pytest.mark.parametrize("what", ["pump", "send", "turn"])
def test_what_is_dropped_while_it_waits_goes(rig: Rig, what: str) -> None:
    class Noted:
        pass

    noted = Noted()
    gone = weakref.ref(noted)
    sender = Sender(rig, credit=2**30 if what == "turn" else 0)

    async def items(noted: object) -> AsyncIterator[str]:
        yield "x" * 70_000
        yield "y"

    async def pumping(noted: object) -> None:
        items_of = items(noted)
        try:
            await (sender.outlet.send(1) if what == "send" else sender.outlet.pump(items_of))
        finally:
            await items_of.aclose()  # type: ignore[attr-defined]

    job = Job(pumping(noted)).step()
    assert job.told == ()
    job.close()
    del job, noted
    gc.collect()
    assert gone() is None
    still_works(sender)


@pytest.mark.parametrize("kind", [KeyError, asyncio.CancelledError, SystemExit, GeneratorExit])
@pytest.mark.parametrize("credit", [0, 1000])
def test_what_the_generator_raises_passes(rig: Rig, kind: type[BaseException], credit: int) -> None:
    sender = Sender(rig, credit=credit)

    async def items() -> AsyncIterator[int]:
        yield 1
        raise kind("x")

    job = Job(sender.outlet.pump(items())).step()
    sender.outlet.grant(100)
    settle(job)
    assert job.told[:2] == ("raised", kind.__name__)
    assert sender.gone() == [1]
    still_works(sender)


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
@pytest.mark.parametrize("where", ["generator", "anext", "awaited"])
def test_signals_of_iteration_are_what_python_makes_of_them(
    rig: Rig, kind: type[Exception], where: str
) -> None:
    """Raised inside a generator they are faults of its; from an iterator of one's own, signals."""
    sender = Sender(rig)

    async def generator() -> AsyncIterator[int]:
        yield 1
        raise kind

    class Own:
        def __aiter__(self) -> "Own":
            return self

        def __anext__(self) -> Any:
            if where == "anext":
                raise kind
            return self._later()

        async def _later(self) -> Any:
            raise kind

    job = Job(sender.outlet.pump(generator() if where == "generator" else Own())).step()
    ended = kind is StopAsyncIteration and where != "generator"
    assert job.told[:2] == (("returned", True) if ended else ("raised", "RuntimeError"))
    still_works(sender)


@pytest.mark.parametrize("source", [5, [1, 2], object()])
def test_what_can_not_be_iterated_over_is_refused(rig: Rig, source: Any) -> None:
    sender = Sender(rig)
    assert Job(sender.outlet.pump(source)).step().told[:2] == ("raised", "TypeError")
    still_works(sender)


def test_an_iterator_that_gives_nothing_to_await(rig: Rig) -> None:
    class Odd:
        def __aiter__(self) -> "Odd":
            return self

        def __anext__(self) -> int:
            return 5

    sender = Sender(rig)
    assert Job(sender.outlet.pump(Odd())).step().told[:2] == ("raised", "TypeError")
    still_works(sender)


def test_a_generator_that_yields_in_its_finally(rig: Rig) -> None:
    sender = Sender(rig)

    async def stubborn() -> AsyncIterator[str]:
        try:
            yield "first"
            await Pause()
        finally:
            yield "in finally"

    job = Job(sender.outlet.pump(stubborn())).step()
    job.cancel()  # lands in the generator's await, and an item comes of it
    settle(job)
    assert sender.gone() == ["first", "in finally"]
    assert job.told[1] == "CancelledError"
    still_works(sender)


def test_a_generator_may_use_its_own_stream(rig: Rig) -> None:
    sender = Sender(rig, credit=10_000)

    async def items() -> AsyncIterator[str]:
        await sender.outlet.send("before")
        yield "item"
        sender.outlet.put("between")
        yield "item"
        sender.outlet.close(StreamEnded("inside"))
        yield "lost"

    job = Job(sender.outlet.pump(items())).step()
    assert job.told == ("returned", False)
    assert sender.gone() == ["before", "item", "between", "item"]


def test_a_pump_over_a_reader_passes_items_on(rig: Rig) -> None:
    """A proxy: what comes on one stream leaves on another."""
    receiver, sender = Receiver(rig, id=1, window=10_000), Sender(Rig(rig.twin), id=1)
    job = Job(sender.outlet.pump(receiver.reader())).step()
    for n in range(3):
        receiver.push(n)
        settle(job)
        assert sender.gone() == [n]
    receiver.inlet.end(None)
    settle(job)
    assert job.told == ("returned", True)


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_a_pump_over_a_reader_that_waits_can_be_ended(rig: Rig, how: str) -> None:
    receiver, sender = Receiver(rig), Sender(Rig(rig.twin))
    job = Job(sender.outlet.pump(receiver.reader())).step()
    assert isinstance(job.waits, Waiter)
    if how == "cancel":
        job.cancel()
        settle(job)
        assert job.told[1] == "CancelledError"
        other = Job(anext(receiver.reader())).step()
        receiver.push(1)
        settle(other)
        assert other.told == ("returned", 1)
    else:
        job.close()
        receiver.push(1)
        assert receiver.inlet.take() == 1
    still_works(sender)


@pytest.mark.asyncio
@pytest.mark.parametrize("steps", range(8))
async def test_real_tasks_cancelled_after_any_number_of_turns(
    twin: SimpleNamespace, steps: int
) -> None:
    loop = asyncio.get_running_loop()
    rig = Rig(twin)
    share = twin.LoopShare(loop.create_future, rig.soon.append, loop.time, loop.is_running, 0, loop)
    rig.lane = twin.Lane(rig.owner, share, 2**20)
    rig.lane.encoders[1] = pack
    sender = Sender(rig, credit=30)
    closed = []

    async def items() -> AsyncIterator[int]:
        try:
            for n in range(100):
                await asyncio.sleep(0)
                yield n
        finally:
            closed.append(True)

    async def feed() -> None:
        source = items()
        try:
            await sender.outlet.pump(source)
        finally:
            await source.aclose()  # type: ignore[attr-defined]

    tasks = [loop.create_task(feed()) for _ in range(3)]
    tasks.append(loop.create_task(sender.outlet.send("x")))
    for _ in range(steps):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    done, _ = await asyncio.wait(tasks)
    assert [task for task in tasks[:3] if not task.cancelled()] == []
    assert len(closed) == (3 if steps else 0)
    sender.outlet.grant(10_000)
    await sender.outlet.send("late")
    assert sender.outlet.may_put
    assert done == set(tasks)
