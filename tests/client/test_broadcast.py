"""What is made of single calls side by side; and a broadcast to one server."""

import asyncio
import copy
import gc
import pickle
import weakref
from collections.abc import Mapping
from typing import Any

import pytest

import fastrpc
from fastrpc.client.broadcast import (
    BroadcastFailed,
    InstanceResult,
    InstanceResults,
    Recipient,
    Sending,
    check_mode,
    named,
    settle,
)
from tests.client.served import Point, Work, serving, turn_until


class Scripted(Recipient):
    """An instance that ends when the test says so."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.end: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.is_called = self.is_cancelled = False

    def __str__(self) -> str:
        return f"{self.id} over there"

    async def call(
        self, name: str = "", args: Any = (), kwargs: Any = (), decode: Any = None, at: float = 0.0
    ) -> Any:
        self.is_called = True
        try:
            return await self.end
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise


class Many:
    """Some of them, and the results of calling them."""

    def __init__(self, count: int) -> None:
        self.all = [Scripted(f"i{number}") for number in range(count)]
        self.results = InstanceResults(self.begin)
        self.begun = 0

    async def begin(self) -> Sending:
        self.begun += 1
        await asyncio.sleep(0)
        return [(each, each.call) for each in self.all]

    def settle(self, mode: Any) -> "asyncio.Task[Any]":
        return asyncio.ensure_future(settle("Work.get", mode, self.results))

    @property
    def cancelled(self) -> list[str]:
        return [each.id for each in self.all if each.is_cancelled]

    def give(self, *numbers: int) -> None:
        for number in numbers:
            self.all[number].end.set_result(number)

    def fail(self, *numbers: int) -> None:
        for number in numbers:
            self.all[number].end.set_exception(fastrpc.Unavailable(f"no {number}"))


async def turns(count: int = 6) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# Modes


@pytest.mark.asyncio
async def test_one_of_the_results_once_all_are_well() -> None:
    many = Many(3)
    outcome = many.settle("one")
    await turns()
    many.give(1, 2)
    await turns()
    assert not outcome.done()
    many.give(0)
    assert await outcome in (0, 1, 2)


@pytest.mark.asyncio
async def test_one_error_ends_the_rest() -> None:
    many = Many(3)
    outcome = many.settle("one")
    await turns()
    many.give(0)
    many.fail(1)
    with pytest.raises(fastrpc.Unavailable, match="no 1") as failed:
        await outcome
    assert failed.value.__notes__ == ["instance i1 over there"]
    assert many.cancelled == ["i2"]


@pytest.mark.asyncio
async def test_all_of_them_in_the_order_of_the_list() -> None:
    many = Many(3)
    outcome = many.settle("all")
    await turns()
    for number in (2, 0, 1):
        many.give(number)
        await turns()
    found = await outcome
    assert list(found.items()) == [("i0", 0), ("i1", 1), ("i2", 2)]


@pytest.mark.asyncio
async def test_all_or_an_error_that_has_the_results_that_came() -> None:
    many = Many(4)
    outcome = many.settle("all")
    await turns()
    many.fail(3, 1)
    await turns()
    assert not outcome.done()  # the others go on
    many.give(0, 2)
    with pytest.raises(BroadcastFailed, match=r"^Work.get: 2 of 4 failed: i") as failed:
        await outcome
    assert failed.value.results == {"i0": 0, "i2": 2}
    assert {id: str(error) for id, error in failed.value.errors.items()} == {
        "i1": "no 1",
        "i3": "no 3",
    }
    assert {each.__notes__[0] for each in failed.value.exceptions} == {
        "instance i1 over there",
        "instance i3 over there",
    }
    assert failed.value.ran == "maybe"
    assert many.cancelled == []


@pytest.mark.asyncio
@pytest.mark.parametrize(("mode", "wanted"), [("quorum", 3), (1, 1), (4, 4)])
async def test_a_quorum_is_known_as_soon_as_it_is_there(mode: Any, wanted: int) -> None:
    many = Many(4)
    outcome = many.settle(mode)
    await turns()
    for number in range(wanted):
        assert not outcome.done()
        many.give(number)
        await turns()
    assert await outcome == {f"i{number}": number for number in range(wanted)}
    assert many.cancelled == [f"i{number}" for number in range(wanted, 4)]


@pytest.mark.asyncio
async def test_a_quorum_that_can_not_come_is_not_waited_for() -> None:
    many = Many(5)
    outcome = many.settle("quorum")
    await turns()
    many.give(0)
    many.fail(1, 2)
    await turns()
    assert not outcome.done()
    many.fail(3)
    with pytest.raises(BroadcastFailed) as failed:
        await outcome
    assert (sorted(failed.value.errors), failed.value.results) == (["i1", "i2", "i3"], {"i0": 0})
    assert many.cancelled == ["i4"]


@pytest.mark.asyncio
async def test_the_first_that_is_well() -> None:
    many = Many(3)
    outcome = many.settle("first")
    await turns()
    many.fail(0)
    await turns()
    assert not outcome.done()
    many.give(2)
    assert await outcome == 2
    assert many.cancelled == ["i1"]


@pytest.mark.asyncio
async def test_no_first_if_all_fail() -> None:
    many = Many(5)
    outcome = many.settle("first")
    await turns()
    many.fail(*range(5))
    with pytest.raises(BroadcastFailed, match=r"5 of 5 failed: .*; and 2 more$") as failed:
        await outcome
    assert len(failed.value.exceptions) == 5
    assert failed.value.ran == "no"


@pytest.mark.asyncio
async def test_a_function_merges_results_when_all_are_well() -> None:
    many, seen = Many(3), []

    def merge(results: Mapping[str, Any]) -> int:
        seen.append(list(results))
        return sum(results.values())

    outcome = many.settle(merge)
    await turns()
    many.give(1, 0, 2)
    assert await outcome == 3
    assert seen == [["i0", "i1", "i2"]]
    many = Many(2)
    outcome = many.settle(merge)
    await turns()
    many.fail(0)
    many.give(1)
    with pytest.raises(BroadcastFailed):
        await outcome
    assert len(seen) == 1


@pytest.mark.parametrize("mode", ["some", 0, -1, True, None, 1.5, ["all"]])
def test_modes_that_are_none(mode: Any) -> None:
    with pytest.raises(fastrpc.ConfigError, match="broadcast must be one of one, all"):
        check_mode(mode)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("count", "failing", "ran"), [(1, [0], "no"), (3, [1], "maybe"), (2, [0, 1], "maybe")]
)
async def test_one_error_says_no_only_if_nobody_ran_it(
    count: int, failing: list[int], ran: str
) -> None:
    many = Many(count)
    many.fail(*failing)
    with pytest.raises(fastrpc.Unavailable, match="no ") as failed:
        await many.settle("one")
    assert failed.value.ran == ran
    assert failed.value.__notes__ == [f"instance i{failing[0]} over there"]


@pytest.mark.asyncio
async def test_who_was_cancelled_may_have_run_it() -> None:
    many = Many(4)
    many.fail(0, 1)
    with pytest.raises(BroadcastFailed) as failed:
        await many.settle("quorum")
    assert many.cancelled == ["i2", "i3"]
    assert failed.value.ran == "maybe"
    one, _ = failed.value.split(lambda error: error is failed.value.exceptions[0])
    assert one is not None
    assert one.ran == "maybe"


# The group


def group() -> BroadcastFailed:
    errors = [fastrpc.Unavailable("a"), fastrpc.DeadlineExceeded("b"), ValueError("c")]
    return BroadcastFailed("Work.get: failed", errors, ["i0", "i1", "i2"], {"i3": 3})


def test_a_group_can_be_split_copied_and_sent_elsewhere() -> None:
    whole = group()
    assert isinstance(whole, fastrpc.FastRPCError)
    assert isinstance(whole, ExceptionGroup)
    late, rest = whole.split(fastrpc.DeadlineExceeded)
    assert isinstance(late, BroadcastFailed)
    assert isinstance(rest, BroadcastFailed)
    assert (list(late.errors), late.results) == (["i1"], {"i3": 3})
    assert list(rest.errors) == ["i0", "i2"]
    for other in (copy.copy(whole), pickle.loads(pickle.dumps(whole))):
        assert (str(other), other.ids, other.results) == (str(whole), whole.ids, whole.results)
        assert [type(each) for each in other.exceptions] == [type(e) for e in whole.exceptions]


def test_a_group_is_taken_apart_by_except_star() -> None:
    seen: list[str] = []
    try:
        raise group()
    except* TimeoutError as late:
        assert isinstance(late, BroadcastFailed)
        seen += late.errors
    except* (fastrpc.FastRPCError, ValueError) as rest:
        assert isinstance(rest, BroadcastFailed)
        seen += rest.errors
    assert seen == ["i1", "i0", "i2"]


# Results as they come


@pytest.mark.asyncio
async def test_results_come_as_they_come() -> None:
    many, seen = Many(3), []
    many.give(1)
    async for each in many.results:
        seen.append(each)
        if each.id == "i1":
            many.fail(2)
        elif each.id == "i2":
            many.give(0)
    assert [(each.id, each.value, type(each.error)) for each in seen] == [
        ("i1", 1, type(None)),
        ("i2", None, fastrpc.Unavailable),
        ("i0", 0, type(None)),
    ]
    assert [each async for each in many.results] == []
    assert many.begun == 1


@pytest.mark.asyncio
async def test_nothing_leaves_before_it_is_iterated_over() -> None:
    many = Many(2)
    await turns()
    assert many.begun == 0
    async with many.results as results:
        await turns()
        assert all(each.is_called for each in many.all)
        assert results.ids == ("i0", "i1")
    assert many.cancelled == ["i0", "i1"]
    assert [each async for each in results] == []
    never = Many(1)
    await never.results.aclose()
    await never.results.aclose()
    assert [each async for each in never.results] == []
    assert never.begun == 0


@pytest.mark.asyncio
async def test_leaving_early_cancels_the_others() -> None:
    many = Many(3)
    many.give(0)
    begin = many.begin
    async for each in InstanceResults(begin):
        assert each == InstanceResult("i0", 0)
        break
    await turns(2)
    assert many.cancelled == ["i1", "i2"]


@pytest.mark.asyncio
async def test_it_may_be_dropped_in_another_thread() -> None:
    asyncio.get_running_loop().set_debug(True)  # says what is called from the wrong thread
    many = Many(2)
    many.give(0)
    kept = [InstanceResults(many.begin)]
    assert await anext(kept[0]) == InstanceResult("i0", 0)
    await asyncio.get_running_loop().run_in_executor(None, kept.clear)
    await turns(2)
    assert many.cancelled == ["i1"]


def test_it_may_be_dropped_when_its_loop_is_closed() -> None:
    kept: list[InstanceResults] = []

    async def begin() -> None:
        many = Many(1)
        kept.append(many.results)
        await kept[0].__aenter__()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    task = kept[0]._tasks[0]
    loop.close()
    kept.clear()
    assert not task.cancelling()
    task._log_destroy_pending = False  # type: ignore[attr-defined]


@pytest.mark.asyncio
async def test_an_error_in_the_loop_cancels_the_others() -> None:
    many = Many(3)
    many.give(0)

    async def look() -> None:
        async for _ in InstanceResults(many.begin):
            raise LookupError

    with pytest.raises(LookupError):
        await look()
    await turns(2)
    assert many.cancelled == ["i1", "i2"]


@pytest.mark.asyncio
async def test_who_is_cancelled_while_waiting_cancels_all_although_the_iterator_is_kept() -> None:
    many = Many(2)
    waiting = asyncio.ensure_future(anext(many.results))
    await turns()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await turns(2)
    assert many.cancelled == ["i0", "i1"]
    assert [each async for each in many.results] == []


@pytest.mark.asyncio
async def test_one_task_at_a_time() -> None:
    many = Many(1)
    first = asyncio.ensure_future(anext(many.results))
    await turns()
    with pytest.raises(fastrpc.ConfigError, match="another task waits"):
        await anext(many.results)
    many.give(0)
    assert await first == InstanceResult("i0", 0)


@pytest.mark.asyncio
async def test_closing_wakes_who_waits() -> None:
    many = Many(1)
    waiting = asyncio.ensure_future(anext(many.results))
    await turns()
    await many.results.aclose()
    with pytest.raises(StopAsyncIteration):
        await waiting


@pytest.mark.asyncio
async def test_closing_while_it_begins_sends_nothing() -> None:
    many = Many(1)
    waiting = asyncio.ensure_future(anext(many.results))
    await asyncio.sleep(0)
    await many.results.aclose()
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert not many.all[0].is_called


@pytest.mark.asyncio
async def test_a_call_that_something_else_cancels_is_an_error() -> None:
    many = Many(2)
    many.all[0].end.cancel()
    many.all[1].end.set_exception(GeneratorExit("odd"))
    found = {each.id: each.error async for each in many.results}
    assert isinstance(found["i0"], fastrpc.Cancelled)
    assert isinstance(found["i1"], fastrpc.Internal)
    assert {getattr(each, "ran", "") for each in found.values()} == {"maybe"}


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", ["one", "all", 2])
async def test_whoever_is_cancelled_anywhere_cancels_all(mode: Any) -> None:
    for count in range(12):
        many = Many(3)
        outcome = many.settle(mode)
        await turns(count)
        many.give(0)
        outcome.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outcome
        await turns(2)
        called = [each for each in many.all if each.is_called]
        assert all(each.end.done() for each in called), count
    assert len(asyncio.all_tasks()) == 1


class Failing(Scripted):
    """An instance that fails at once."""

    async def call(self, *args: Any) -> Any:
        raise fastrpc.RpcError(1)


@pytest.mark.asyncio
async def test_an_error_leaves_no_circle() -> None:
    many = Many(1)
    many.all.append(Failing("i1"))
    gc.collect()
    gc.disable()
    try:
        gone = []
        try:
            await settle("Work.get", "one", many.results)
        except fastrpc.RpcError as error:
            gone.append(weakref.ref(error))
        await turns()
        assert [each() for each in gone] == [None]
    finally:
        gc.enable()


# One server


@pytest.mark.asyncio
async def test_one_server_is_everybody() -> None:
    async with serving() as (server, work), fastrpc.connect(server.targets[0]) as client:
        here = server.targets[0]
        assert await client.broadcast("Work.add", 1, b=2) == 3
        assert await client.options(broadcast="all").broadcast("Work.add", 1) == {here: 3}
        assert await client.options(broadcast="quorum").broadcast("Work.add", 1) == {here: 3}
        assert await client.options(broadcast=1).broadcast("Work.add", 1) == {here: 3}
        assert await client.options(broadcast="first").broadcast("Work.add", 1) == 3
        assert await client.options(broadcast=len).broadcast("Work.add", 1) == 1
        found = [each async for each in client.broadcast_each("Work.add", 1)]
        assert found == [InstanceResult(here, 3)]
        with pytest.raises(fastrpc.Unavailable, match="of 1 instances 2 can't be well") as few:
            await client.options(broadcast=2).broadcast("Work.note", "never")
        assert few.value.ran == "no"
        assert work.runs == []


@pytest.mark.asyncio
async def test_errors_of_one_server() -> None:
    async with serving() as (server, _), fastrpc.connect(server.targets[0]) as client:
        with pytest.raises(fastrpc.RemoteError, match="no such thing"):
            await client.broadcast("Work.fail", "no such thing")
        with pytest.raises(BroadcastFailed, match="1 of 1 failed") as failed:
            await client.options(broadcast="all").broadcast("Work.fail", "x")
        assert list(failed.value.errors) == [server.targets[0]]
        with pytest.raises(fastrpc.CodecError):
            await client.broadcast("Work.echo", object())


@pytest.mark.asyncio
async def test_the_deadline_of_a_broadcast_to_one() -> None:
    async with serving() as (server, work), fastrpc.connect(server.targets[0]) as client:
        with pytest.raises(fastrpc.DeadlineExceeded):
            await client.options(timeout=0.02).broadcast("Work.wait", "a")
        await turn_until(lambda: work.ended == ["a cancelled"])


@pytest.mark.asyncio
async def test_cancelling_a_broadcast_to_one() -> None:
    async with serving() as (server, work), fastrpc.connect(server.targets[0]) as client:
        call = asyncio.ensure_future(client.broadcast("Work.wait", "a"))
        await turn_until(lambda: work.runs == ["a"])
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await turn_until(lambda: work.ended == ["a cancelled"])


def nothing(handler: fastrpc.Handler) -> fastrpc.Handler:
    async def pass_on(call: fastrpc.Call) -> fastrpc.Reply:
        return await handler(call)

    return pass_on


@pytest.mark.asyncio
@pytest.mark.parametrize("interceptors", [(), (nothing,)], ids=["plain", "intercepted"])
async def test_a_method_of_a_stub_is_read_as_its_type(interceptors: Any) -> None:
    async with (
        serving() as (server, _),
        fastrpc.connect(server.targets[0], interceptors=interceptors) as client,
    ):
        work = client.stub(Work)
        view = client.options(broadcast=lambda found: [*found.values()])
        assert await view.broadcast(work.move, Point(1, 2), by=1) == [Point(2, 3)]
        assert await client.broadcast("Work.move", Point(1, 2), 1) == {"x": 2, "y": 3}
        assert await client.broadcast(work.sum_of, 1, 2) == 3  # "plus" on the wire


class Streams:
    """A service whose method gives items."""

    async def count(self, n: int) -> Any:
        for number in range(n):
            yield number


@pytest.mark.asyncio
async def test_what_can_not_be_broadcast() -> None:
    client = fastrpc.connect("mem://nowhere")
    wrong: list[Any] = [len, None, 3, Work.add, b"Work.add"]
    for each in wrong:
        with pytest.raises(fastrpc.ConfigError, match="expected a name such as"):
            named(each)
        with pytest.raises(fastrpc.ConfigError):
            client.broadcast_each(each)
    with pytest.raises(fastrpc.ConfigError, match="has a stream"):
        await client.broadcast(client.stub(Streams).count, 3)


@pytest.mark.asyncio
async def test_a_broadcast_waits_for_the_connection() -> None:
    async with serving() as (server, _):
        client = fastrpc.connect(server.targets[0])
        assert await client.broadcast("Work.add", 1, 2) == 3
        await client.aclose()
        with pytest.raises(fastrpc.ConnectionLost, match="closed"):
            await client.broadcast("Work.add", 1, 2)
