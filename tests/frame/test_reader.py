"""ItemReader: an iterator by any means of Python, in tasks, by hand, under a tracer."""

import asyncio
import gc
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from types import SimpleNamespace, coroutine
from typing import Any

import pytest

from fastrpc.errors import CodecError, ConfigError
from tests.frame.halves import Job, Receiver, Refused, settle, unpack
from tests.frame.rig import Rig
from tests.frame.twins import open_twin


@pytest.fixture
def rig(twin: SimpleNamespace) -> Rig:
    return Rig(twin)


def live(twin: SimpleNamespace, **options: Any) -> Receiver:
    """Return a receiver whose waiters are futures of the running loop."""
    rig = Rig(twin)
    loop = asyncio.get_running_loop()
    rig.share = twin.LoopShare(
        loop.create_future, rig.soon.append, loop.time, loop.is_running, 0, loop
    )
    rig.lane = twin.Lane(rig.owner, rig.share, 2**20)
    rig.lane.opened = True
    return Receiver(rig, **options)


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# By hand


def test_it_iterates_over_what_has_come(rig: Rig) -> None:
    receiver = Receiver(rig)
    for value in (1, None, (2,), [3]):
        receiver.push(value)
    receiver.inlet.end(None)

    async def read() -> list[Any]:
        return [item async for item in receiver.reader()]

    assert Job(read()).step().told == ("returned", [1, None, [2], [3]])


def test_it_is_its_own_iterator(rig: Rig) -> None:
    reader = Receiver(rig).reader()
    assert aiter(reader) is reader


def test_it_waits_for_what_has_not_come(rig: Rig) -> None:
    receiver = Receiver(rig)
    job = Job(anext(receiver.reader())).step()
    assert job.waits is rig.waiters[0]
    assert not job.can_go
    receiver.push("here")
    settle(job)
    assert job.told == ("returned", "here")


def test_waking_without_an_item_makes_it_wait_again(rig: Rig) -> None:
    """Somebody else has taken it in the meantime."""
    receiver = Receiver(rig)
    job = Job(anext(receiver.reader())).step()
    receiver.push(1)
    assert receiver.inlet.take() == 1
    settle(job)
    assert job.told == ()
    receiver.push(2)
    settle(job)
    assert job.told == ("returned", 2)


@pytest.mark.parametrize("waits", [False, True])
def test_the_end_stops_it_again_and_again(rig: Rig, waits: bool) -> None:
    receiver = Receiver(rig)
    reader = receiver.reader()
    job = Job(anext(reader))
    if waits:
        job.step()
    receiver.inlet.end(None)
    settle(job)
    assert job.told[:2] == ("raised", "StopAsyncIteration")
    assert Job(anext(reader)).step().told[1] == "StopAsyncIteration"


def test_an_error_is_raised_once_and_then_it_stops(rig: Rig) -> None:
    receiver = Receiver(rig)
    reader = receiver.reader()
    jobs = [Job(anext(reader)) for _ in range(4)]
    jobs[0].step()
    receiver.push(1)
    receiver.inlet.end(CodecError("why"))
    told = [job.step().told for job in jobs]
    assert told[:2] == [("returned", 1), ("raised", "CodecError", "why")]
    assert [what[1] for what in told[2:]] == ["StopAsyncIteration"] * 2


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, GeneratorExit, ValueError])
def test_whatever_a_decoder_raises_is_explained_or_passes(
    rig: Rig, kind: type[BaseException], waits: bool
) -> None:
    receiver = Receiver(rig)

    def decode(data: bytes) -> Any:
        raise kind

    receiver.decode = decode
    job = Job(anext(receiver.reader()))
    if waits:
        job.step()
    receiver.push(1)
    settle(job)
    assert job.told[:2] == ("raised", "GeneratorExit" if kind is GeneratorExit else "Refused")
    receiver.decode = unpack
    receiver.push(2)
    assert Job(anext(receiver.reader())).step().told == ("returned", 2)


@pytest.mark.parametrize("value", [None, (1, 2), StopIteration(5), ValueError("a value"), 0])
def test_any_value_is_only_a_value(rig: Rig, value: Any) -> None:
    """Not one that Python's own StopIteration would take apart."""
    receiver = Receiver(rig)
    receiver.decode = lambda data: value
    got = []

    async def read() -> None:
        got.append(await anext(receiver.reader()))
        got.append(await anext(receiver.reader(), "none left"))

    receiver.push()
    receiver.push()
    assert Job(read()).step().told == ("returned", None)
    assert all(one is value for one in got)


def test_what_it_is_to_keep_lives_as_long_as_it_and_its_reading(rig: Rig) -> None:
    class Kept:
        pass

    kept = Kept()
    gone = weakref.ref(kept)
    receiver = Receiver(rig)
    reader = receiver.reader(kept)
    job = Job(anext(reader)).step()
    del kept, reader
    gc.collect()
    assert gone() is not None
    receiver.push(1)
    settle(job)
    del job
    gc.collect()
    assert gone() is None


def test_one_reader_at_a_time(rig: Rig) -> None:
    receiver = Receiver(rig)
    reader = receiver.reader()
    first = Job(anext(reader)).step()
    for other in (reader, receiver.reader()):
        told = Job(anext(other)).step().told
        assert told == ("raised", "ConfigError", "a stream can be read by one task at a time")
    receiver.push(1)
    settle(first)
    assert first.told == ("returned", 1)


def test_a_cancelled_reader_leaves_its_place(rig: Rig) -> None:
    receiver = Receiver(rig)
    reader = receiver.reader()
    first = Job(anext(reader)).step()
    first.cancel()
    settle(first)
    assert first.told[1] == "CancelledError"
    second = Job(anext(reader)).step()
    receiver.push("for the second")
    settle(second)
    assert second.told == ("returned", "for the second")


def test_no_item_is_lost_when_it_comes_with_the_cancellation(rig: Rig) -> None:
    for item_first in (True, False):
        receiver = Receiver(rig)
        job = Job(anext(receiver.reader())).step()
        if item_first:
            receiver.push("item")
            job.cancel()
        else:
            job.cancel()
            receiver.push("item")
        settle(job)
        assert job.told[1] == "CancelledError"
        assert receiver.inlet.take() == "item"


def test_reading_that_is_closed_does_no_harm(rig: Rig) -> None:
    receiver = Receiver(rig)
    job = Job(anext(receiver.reader())).step()
    job.close()
    receiver.push(1)
    assert receiver.inlet.take() == 1
    job = Job(anext(receiver.reader(), None)).step()
    job.close()
    receiver.push(2)
    assert receiver.inlet.take() == 2


def test_reading_that_never_began_does_no_harm(rig: Rig) -> None:
    receiver = Receiver(rig)
    reading = anext(receiver.reader())
    reading.close()
    reading = anext(receiver.reader())
    with pytest.raises(KeyError):
        reading.throw(KeyError("k"))
    receiver.push(1)
    assert receiver.inlet.take() == 1


@pytest.mark.parametrize("words", [(KeyError,), (KeyError("k"),), (KeyError, KeyError("k"))])
def test_it_can_be_thrown_into_in_every_form(rig: Rig, words: tuple[Any, ...]) -> None:
    for begun in (False, True):
        receiver = Receiver(rig)
        reading = anext(receiver.reader())
        if begun:
            assert reading.send(None) is rig.waiters[-1]
        with pytest.raises(KeyError):
            reading.throw(*words)


def test_it_can_be_driven_by_send(rig: Rig) -> None:
    """As a tracer makes Python do, and anext() with a default."""
    receiver = Receiver(rig)
    reading = anext(receiver.reader())
    assert isinstance(reading, Coroutine)
    waiter = reading.send(None)
    receiver.push((1, 2))
    assert waiter.done()
    with pytest.raises(StopIteration) as stop:
        reading.send(None)
    assert stop.value.value == [1, 2]
    receiver.inlet.end(None)
    with pytest.raises(StopAsyncIteration):
        anext(receiver.reader()).send(None)


def test_it_works_under_a_tracer(rig: Rig) -> None:
    """Python awaits in another way then."""
    receiver = Receiver(rig)

    async def read() -> list[Any]:
        return [item async for item in receiver.reader()]

    seen: list[str] = []

    def tracer(frame: Any, event: str, arg: Any) -> Any:
        seen.append(event)
        return tracer

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        job = Job(read()).step()
        receiver.push((1, 2))
        receiver.push(None)
        receiver.inlet.end(None)
        settle(job)
    finally:
        sys.settrace(before)
    assert seen
    assert job.told == ("returned", [[1, 2], None])


def test_generators_may_await_it(rig: Rig) -> None:
    """The old way, in which asyncio wraps what is awaitable and no coroutine."""
    receiver = Receiver(rig)

    @coroutine
    def read() -> Generator[Any, None, Any]:
        return (yield from anext(receiver.reader()).__await__())

    job = Job(read()).step()
    receiver.push(5)
    settle(job)
    assert job.told == ("returned", 5)


@pytest.mark.compiled
def test_a_step_needs_an_inlet() -> None:
    step: Any = type(anext(Receiver(Rig(open_twin("compiled"))).reader()))
    for make in (step, lambda: step(None, None), lambda: step.__new__(step)):
        with pytest.raises(TypeError):
            make()


# In tasks


@pytest.mark.asyncio
async def test_tasks_read_it(twin: SimpleNamespace) -> None:
    receiver = live(twin)
    got: list[Any] = []

    async def read() -> None:
        async for item in receiver.reader():
            got.append(item)

    task = asyncio.create_task(read())
    await turns()
    for value in range(3):
        receiver.push(value)
        receiver.push(-value)
        await turns()
    receiver.inlet.end(None)
    await task
    assert got == [0, 0, 1, -1, 2, -2]


WAYS: dict[str, Callable[[Any], Any]] = {
    "anext": lambda reader: _awaited(reader),
    "anext with a default": lambda reader: _awaited(reader, None),
    "a task of it": lambda reader: anext(reader),
    "async for": lambda reader: _first(reader),
    "a generator around it": lambda reader: _first(_passed_on(reader)),
    "wait_for": lambda reader: _timed(reader),
    "gather": lambda reader: _gathered(reader),
}


async def _awaited(reader: Any, *default: Any) -> Any:
    return await anext(reader, *default)


async def _first(reader: Any) -> Any:
    async for item in reader:
        return item


async def _passed_on(reader: Any) -> AsyncIterator[Any]:
    async for item in reader:
        yield item


async def _timed(reader: Any) -> Any:
    return await asyncio.wait_for(anext(reader), 30.0)


async def _gathered(reader: Any) -> Any:
    (item,) = await asyncio.gather(anext(reader))
    return item


@pytest.mark.asyncio
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("when", ["before", "later", "end", "bad", "cancel", "cancel at once"])
async def test_every_way_to_wait_for_an_item(twin: SimpleNamespace, way: str, when: str) -> None:
    receiver = live(twin)
    if when == "before":
        receiver.push("item")
    task = asyncio.create_task(WAYS[way](receiver.reader()))
    if when != "cancel at once":
        await turns()
    if when == "later":
        receiver.push("item")
    elif when == "bad":
        receiver.inlet.push(1, b"\xc1", 21, False)
    elif when == "end":
        receiver.inlet.end(CodecError("why"))
    elif when.startswith("cancel"):
        task.cancel()
    expected = {"end": CodecError, "bad": Refused}.get(when, asyncio.CancelledError)
    if when in ("before", "later"):
        assert await task == "item"
    else:
        with pytest.raises(expected):
            await task
    if when in ("before", "later", "bad") or when.startswith("cancel"):
        receiver.push("next")  # the place is free, and nothing is lost
        assert await anext(receiver.reader()) == "next"


@pytest.mark.asyncio
async def test_a_timeout_ends_the_wait_and_not_the_stream(twin: SimpleNamespace) -> None:
    receiver = live(twin)
    reader = receiver.reader()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await anext(reader)
    receiver.push(1)
    assert await anext(reader) == 1


@pytest.mark.asyncio
async def test_two_tasks_over_one_stream(twin: SimpleNamespace) -> None:
    receiver = live(twin)
    reader = receiver.reader()
    first, second = (asyncio.create_task(_awaited(reader)) for _ in range(2))
    await turns()
    with pytest.raises(ConfigError):
        await second
    receiver.push(1)
    assert await first == 1


@pytest.mark.asyncio
async def test_a_future_that_tells_of_an_item_may_end_the_stream(twin: SimpleNamespace) -> None:
    receiver = live(twin)
    waiter = receiver.inlet.wait()
    waiter.add_done_callback(lambda _: receiver.inlet.drop())
    receiver.push(1)
    await turns()
    with pytest.raises(StopAsyncIteration):
        await anext(receiver.reader())


# References


def _raising(error: Exception) -> Any:
    error.__traceback__ = error.__context__ = None
    return pytest.raises(type(error))


async def _there(receiver: Receiver, reader: Any, error: Exception) -> None:
    receiver.push()
    await anext(reader)


async def _waits(receiver: Receiver, reader: Any, error: Exception) -> None:
    asyncio.get_running_loop().call_soon(receiver.push)
    await anext(reader)


async def _default(receiver: Receiver, reader: Any, error: Exception) -> None:
    receiver.push()
    await anext(reader, None)


async def _send(receiver: Receiver, reader: Any, error: Exception) -> None:
    receiver.push()
    with pytest.raises(StopIteration):
        anext(reader).send(None)


async def _throw(receiver: Receiver, reader: Any, error: Exception) -> None:
    reading = anext(reader)
    with _raising(error):
        reading.throw(error)


async def _cancel(receiver: Receiver, reader: Any, error: Exception) -> None:
    task = asyncio.create_task(_awaited(reader))
    await turns(1)
    task.cancel()
    await asyncio.wait([task])


async def _bad(receiver: Receiver, reader: Any, error: Exception) -> None:
    receiver.inlet.push(9, b"", 20, False)
    with pytest.raises(Refused):
        await anext(reader)
    receiver.odd.clear()
    receiver.explained.clear()


async def _error(receiver: Receiver, reader: Any, error: Exception) -> None:
    other = Receiver(receiver.rig, id=2)
    other.inlet.end(error)
    with _raising(error):
        await anext(other.reader())


async def _stop(receiver: Receiver, reader: Any, error: Exception) -> None:
    other = Receiver(receiver.rig, id=2)
    other.inlet.end(None)
    with pytest.raises(StopAsyncIteration):
        await anext(other.reader())


PATHS = {
    way.__name__[1:]: way
    for way in (_there, _waits, _default, _send, _throw, _cancel, _bad, _error, _stop)
}


@pytest.mark.asyncio
@pytest.mark.parametrize("value", [object(), None], ids=["object", "None"])
@pytest.mark.parametrize("path", PATHS)
async def test_no_path_loses_or_keeps_a_reference(
    twin: SimpleNamespace, path: str, value: Any
) -> None:
    """The step's slot is C of ours: each way through it is counted."""
    receiver = live(twin, window=2**31 - 1)
    receiver.decode = lambda data: value
    reader, error = receiver.reader(), CodecError("e")
    things = [error, receiver.inlet, reader]
    step, other = anext(reader), anext(reader)
    step.close()
    other.close()
    if other is step:  # of the compiled twin
        things.append(step)

    def counts() -> list[int]:
        gc.collect()
        error.__traceback__ = error.__context__ = None
        return [sys.getrefcount(thing) for thing in things]

    async def play(times: int) -> tuple[list[int], int, int]:
        for _ in range(times):
            await PATHS[path](receiver, reader, error)
        return counts(), sys.getrefcount(value), sys.getallocatedblocks()

    before, values, blocks = await play(10)
    after, values_after, blocks_after = await play(200)
    assert after == before
    assert abs(values_after - values) < (100 if value is None else 1)  # everybody uses None
    assert blocks_after - blocks < 100
