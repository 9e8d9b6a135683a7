"""Pending and ChainCaller on a loop: where they are awaited, or else in a task."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from fastrpc.errors import Internal
from tests.frame.chains import INHERITED, VAR, Chain, caller, refuse
from tests.frame.rig import Rig


@pytest.fixture
def rig(twin: SimpleNamespace) -> Rig:
    return Rig(twin)


async def until(chain: Chain) -> None:
    """Let the loop turn until *chain* has ended."""
    while chain.log[-1:] != ["ends"]:
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_awaited_at_once_it_has_no_task_of_its_own(twin: SimpleNamespace) -> None:
    tasks = []

    async def chain(call: Any) -> Any:
        tasks.append(asyncio.current_task())
        return twin.ReplyFields([call.method, call.args, call.kwargs])

    one = caller(twin, chain)
    assert await one.call("m", 1, k=2) == ["m", (1,), {"k": 2}]
    assert await one.call("m", self=1, method=2) == ["m", (), {"self": 1, "method": 2}]
    assert await one.send("sender", "n", 3, sender=4) == ["n", (3,), {"sender": 4}]
    assert set(tasks) == {asyncio.current_task()}


@pytest.mark.asyncio
async def test_the_innermost_handler_is_the_one_that_was_asked_for(twin: SimpleNamespace) -> None:
    async def chain(call: Any) -> Any:
        return twin.ReplyFields(call.sender)

    one = caller(twin, chain)
    assert type(await one.call("m")) is twin.Sender
    assert await one.send("mine", "m") == "mine"


@pytest.mark.asyncio
async def test_what_nobody_awaits_runs_in_a_task_from_the_next_turn_on(
    twin: SimpleNamespace,
) -> None:
    chain = Chain(twin, asyncio.sleep(0))
    caller(twin, chain).call("m")
    assert chain.log == []
    await until(chain)
    assert chain.log == [("begins", "unset"), None, "ends"]


@pytest.mark.asyncio
async def test_what_was_begun_may_be_awaited_by_many(twin: SimpleNamespace) -> None:
    chain = Chain(twin, asyncio.sleep(0))
    pending = caller(twin, chain).call("m")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert chain.log
    assert [await pending, await pending] == ["value"] * 2
    pending.begin()  # again: nothing
    assert await asyncio.gather(pending, pending) == ["value"] * 2
    assert chain.log.count("ends") == 1


@pytest.mark.asyncio
async def test_begin_after_awaiting_does_nothing(twin: SimpleNamespace) -> None:
    event = asyncio.Event()
    chain = Chain(twin, event.wait())
    pending = chain.pending()

    async def awaiting() -> Any:
        return await pending

    task = asyncio.create_task(awaiting())
    await asyncio.sleep(0)
    before = asyncio.all_tasks()
    pending.begin()
    assert asyncio.all_tasks() == before
    event.set()
    assert await task == "value"


@pytest.mark.asyncio
async def test_many_calls_of_one_turn_all_run(twin: SimpleNamespace) -> None:
    async def chain(call: Any) -> Any:
        await asyncio.sleep(0)
        return twin.ReplyFields(call.args[0])

    one = caller(twin, chain)
    for _ in range(2):  # and of the next
        assert await asyncio.gather(*[one.call("m", n) for n in range(50)]) == list(range(50))


@pytest.mark.asyncio
async def test_calls_of_one_turn_have_each_the_context_they_were_made_in(
    twin: SimpleNamespace,
) -> None:
    async def chain(call: Any) -> Any:
        return twin.ReplyFields((call.args[0], VAR.get()))

    one = caller(twin, chain)

    async def calling(name: str) -> Any:
        VAR.set(name)
        pending = one.call("m", name)
        VAR.set("later")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return await pending

    told = await asyncio.gather(*map(calling, "abc"))
    assert told == [("a", "a"), ("b", "b"), ("c", "c")]


@pytest.mark.asyncio
async def test_a_chain_that_raises_when_it_is_called_disturbs_no_other(
    twin: SimpleNamespace,
) -> None:
    def chain(call: Any) -> Any:
        if call.args:
            raise KeyError("now")
        return twin.Done(twin.ReplyFields("value"))

    one = caller(twin, chain)
    with pytest.raises(KeyError, match="now"):
        one.call("m", 1)
    pending = one.call("m")
    with pytest.raises(KeyError, match="now"):
        one.call("m", 1)
    await asyncio.sleep(0)
    assert await pending == "value"


@pytest.mark.asyncio
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("gives", [KeyError("x"), 5])
async def test_errors_come_out_in_a_task_as_well(
    twin: SimpleNamespace, begun: bool, gives: Any
) -> None:
    pending = caller(twin, Chain(twin, asyncio.sleep(0), gives=gives)).call("A.b")
    if begun:
        await asyncio.sleep(0)
    with pytest.raises(Internal if gives == 5 else KeyError, match="A.b gave int|x"):
        await pending


@pytest.mark.asyncio
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("turns", [1, 2, 3])
async def test_cancelling_who_awaits_cancels_the_chain(
    twin: SimpleNamespace, begun: bool, turns: int
) -> None:
    chain = Chain(twin, asyncio.get_running_loop().create_future())
    pending = caller(twin, chain).call("m")
    if begun:
        await asyncio.sleep(0)

    async def awaiting() -> Any:
        return await pending

    task = asyncio.create_task(awaiting())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert chain.log[1:] in (["CancelledError", "ends"], [])  # a task may not have begun


@pytest.mark.asyncio
@pytest.mark.parametrize("begun", [False, True])
async def test_tools_of_asyncio_take_it(twin: SimpleNamespace, begun: bool) -> None:
    tools: list[Any] = [
        asyncio.ensure_future, asyncio.gather, asyncio.shield, lambda it: asyncio.wait_for(it, 60),
    ]  # fmt: skip
    for tool in tools:
        pending = caller(twin, Chain(twin, asyncio.sleep(0))).call("m")
        if begun:
            await asyncio.sleep(0)
        assert await tool(pending) in ("value", ["value"])


@pytest.mark.asyncio
async def test_a_timeout_around_it_ends_it(twin: SimpleNamespace) -> None:
    chain = Chain(twin, asyncio.get_running_loop().create_future())
    pending = caller(twin, chain).call("m")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await pending
    assert chain.log[1:] == ["CancelledError", "ends"]


@pytest.mark.asyncio
async def test_a_chain_through_a_lane(rig: Rig) -> None:
    twin = rig.twin

    async def chain(call: Any) -> Any:
        call.args = (2 * call.args[0],)
        reply = await twin.innermost(call)
        reply.value = ["seen", reply.value, reply.packed_metadata]
        return reply

    rig.share = twin.LoopShare(
        asyncio.get_running_loop().create_future, rig.soon.append, lambda: 100.0, lambda: True, 0,
        rig,
    )  # fmt: skip
    rig.lane = twin.Lane(rig.owner, rig.share, 2**20)
    other = Rig(twin)
    rig.lane.encoders, rig.lane.decoders = other.lane.encoders, other.lane.decoders
    rig.lane.attach(rig._write, rig._writelines)
    rig.lane.opened = rig.lane.ready = True
    sender = twin.Sender([rig.lane], refuse, None, print, twin.ReplyFields, print)
    one = twin.ChainCaller(chain, sender, twin.CallFields, 0.0, b"", INHERITED, lambda: 100.0)
    pending = one.call("m", 4)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rig.answer(1, "found")
    assert await pending == ["seen", "found", b""]
