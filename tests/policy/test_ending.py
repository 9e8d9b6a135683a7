"""How calls end, as interceptors that note calls are told, on both sides."""

import asyncio
import contextlib
import dataclasses
import gc
from collections.abc import AsyncIterator

import pytest

import fastrpc
from fastrpc.policy.ending import Ending, Outcome, noting
from fastrpc.policy.timeout import max_timeout
from tests.policy.served import RESULTS, WAYS, Work, connected, numbers
from tests.server.serving import until

pytestmark = pytest.mark.asyncio


class Notes:
    """An interceptor that keeps the endings; of errors the class, for a traceback keeps streams."""

    def __init__(self) -> None:
        self.endings: list[tuple[str, Ending]] = []
        self.errors: list[type] = []

    def __call__(self, handler: fastrpc.Handler) -> fastrpc.Handler:
        return noting(handler, self._note)

    def _note(self, call: fastrpc.Call, ending: Ending) -> None:
        self.errors.append(type(ending.error))
        self.endings.append((call.method, dataclasses.replace(ending, error=None)))

    @property
    def only(self) -> Ending:
        assert len(self.endings) == 1, self.endings
        return self.endings[0][1]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scheme", ["mem", "tcp"])
async def test_each_call_is_noted_once_on_both_sides(scheme: str, way: str) -> None:
    there, here = Notes(), Notes()
    async with connected(scheme=scheme, server=[there], client=[here]) as (client, work, _):
        assert await WAYS[way](client) == RESULTS[way]
        assert work.runs == [way]
        for notes in (there, here):
            await until(lambda notes=notes: notes.endings)
            assert notes.endings[0][0] == f"Work.{way}"
            assert notes.only.outcome is Outcome.OK
            assert notes.only.seconds >= 0
    gives = 3 if way in ("steps", "gives", "both") else None
    takes = 3 if way in ("takes", "both") else None
    assert (there.only.received, there.only.sent) == (takes, gives)
    received = 0 if way == "takes" else gives  # a caller can't know that none will come
    if way != "both":  # what `feed` sends passes no interceptor
        assert (here.only.received, here.only.sent) == (received, takes)


async def test_a_stream_that_is_left_is_cancelled_on_both_sides() -> None:
    there, here = Notes(), Notes()
    async with connected(server=[there], client=[here]) as (client, work, server):
        async for item in client.stream("Work.gives", 10**9):
            if item == 5:
                break
        # At once: nothing of ours may keep a stream that nobody holds.
        assert here.only.outcome is Outcome.CANCELLED
        assert here.only.received == 6
        await until(lambda: work.closed and there.endings)
        assert there.only.outcome is Outcome.CANCELLED
        assert not server.stats().running


@pytest.mark.parametrize("method", ["stuck", "stuck_stream"])
async def test_what_ends_a_call_from_outside(method: str) -> None:
    """A deadline, and a cancel by the caller."""
    # The server's own limit: of the caller's deadline either side may be the first to know.
    for limits, outcome in (([max_timeout(0.02)], Outcome.LATE), ([], Outcome.CANCELLED)):
        there, here = Notes(), Notes()
        async with connected(server=[there, *limits], client=[here]) as (client, work, _):
            if method == "stuck":
                waiting = asyncio.ensure_future(client.call("Work.stuck"))
            else:
                waiting = asyncio.ensure_future(_read(client))
            await work.entered.wait()
            if not limits:
                waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError, fastrpc.DeadlineExceeded):
                await waiting
            del waiting  # its traceback keeps the stream
            await until(lambda there=there: there.endings)
            assert (there.only.outcome, here.only.outcome) == (outcome, outcome)


async def _read(client: fastrpc.Client) -> list[int]:
    return [item async for item in client.stream("Work.stuck_stream")]


async def test_an_item_that_can_not_be_sent_is_a_failure() -> None:
    class Odd:
        async def give(self) -> AsyncIterator[object]:
            yield object()

    there = Notes()
    async with connected(server=[there]) as (client, _, server):
        server.register(Odd())
        with pytest.raises(fastrpc.CallError):
            await anext(aiter(client.stream("Odd.give")))
        assert there.only.outcome is Outcome.FAILED
        assert there.only.status == 50


async def test_a_stream_without_a_reader_is_noted_when_its_value_is_there() -> None:
    here = Notes()
    async with connected(client=[here]) as (client, _, _server):
        async with client.stream("Work.takes") as stream:
            await stream.feed(numbers(4))
            assert await stream.result() == 6
        assert here.only.outcome is Outcome.OK


async def test_a_stream_that_is_opened_and_dropped_is_noted() -> None:
    here = Notes()
    async with connected(client=[here]) as (client, _, server):
        stream = client.stream("Work.takes")
        await stream.send(1)
        del stream
        await until(lambda: not server.stats().running)
        gc.collect()
        assert here.only.outcome is Outcome.CANCELLED


async def test_who_notes_can_not_harm_the_call() -> None:
    def note(call: fastrpc.Call, ending: Ending) -> None:
        raise RuntimeError("a bug")

    def wrap(handler: fastrpc.Handler) -> fastrpc.Handler:
        return noting(handler, note)

    async with connected(server=[wrap], client=[wrap]) as (client, _, _server):
        for way, call in WAYS.items():
            assert await call(client) == RESULTS[way]


class Raising:
    """Raises what it is told to."""

    def __init__(self) -> None:
        self.error: BaseException = LookupError("x")

    def go(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (LookupError("x"), 50, Outcome.FAILED),
        (fastrpc.RpcError(7, "x"), 60, Outcome.REFUSED),
        (fastrpc.PermissionDenied("x"), 45, Outcome.REFUSED),
        (fastrpc.PermissionDenied("x", method="Other.get"), 50, Outcome.FAILED),
        (fastrpc.DeadlineExceeded("x"), 51, Outcome.LATE),
        (asyncio.CancelledError(), 42, Outcome.CANCELLED),
    ],
    ids=str,
)
async def test_what_is_raised_has_a_status(
    error: BaseException, status: int, outcome: Outcome
) -> None:
    there, here, raising = Notes(), Notes(), Raising()
    raising.error = error
    async with connected(server=[there], client=[here]) as (client, _, server):
        server.register(raising)
        with pytest.raises(fastrpc.CallError):
            await client.call("Raising.go")
    for notes in (there, here):
        assert (notes.only.status, notes.only.outcome) == (status, outcome)
    assert there.errors == [type(error)]


async def test_work_is_as_the_tables_say() -> None:
    assert set(WAYS) == set(RESULTS) < {name for name in vars(Work) if not name.startswith("_")}
