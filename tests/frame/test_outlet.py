"""Outlet: items leave while there is credit, in order, and never more than the peer takes."""

import asyncio
from collections.abc import AsyncIterator, Generator
from itertools import pairwise
from types import SimpleNamespace, coroutine
from typing import Any

import pytest

from fastrpc import wire
from fastrpc.errors import CodecError, ProtocolError, StreamEnded, TooLarge
from tests.frame.halves import HEAD, Job, Sender, settle
from tests.frame.rig import Rig, pack
from tests.frame.twins import open_twin


@pytest.fixture
def rig(twin: SimpleNamespace) -> Rig:
    return Rig(twin)


async def items(*values: Any) -> AsyncIterator[Any]:
    for value in values:
        yield value


def sent(sender: Sender, item: Any) -> Job:
    """Begin to send *item*, up to where it waits."""
    return Job(sender.outlet.send(item)).step()


DONE = ("returned", None)


# Sending


def test_an_item_leaves_as_a_frame_of_its_own(rig: Rig) -> None:
    for own in (True, False):
        sender = Sender(rig, id=6, own=own)
        assert sent(sender, [1]).told == DONE
        rig.turn()
        (frame,) = rig.sent()
        assert (frame.kind, frame.id, frame.reply, frame.serializer, frame.payload) == (
            3, 6, not own, 1, pack([1]),
        )  # fmt: skip
        assert (frame.bits, sender.outlet.count, sender.outlet.is_over) == (0, 1, False)


def test_items_of_one_turn_leave_in_one_write(rig: Rig) -> None:
    sender = Sender(rig, credit=10_000)
    for n in range(20):
        sender.outlet.put(n)
    assert rig.writes == 0
    assert sender.gone() == list(range(20))
    assert rig.writes == 1


def test_many_bytes_leave_before_the_turn_is_over(rig: Rig) -> None:
    """So that a slow peer is noticed while there is more to send."""
    sender = Sender(rig, credit=2**20)
    sender.outlet.put("x" * 66_000)
    assert rig.writes == 1
    for _ in range(7):
        sender.outlet.put("y" * 10_000)
    assert rig.writes == 2
    assert rig.lane.unsent < 65_536


def test_large_bytes_go_raw_if_the_peer_takes_that(rig: Rig) -> None:
    sender = Sender(rig, credit=2**20)
    big = bytes(wire.BIG_BODY)
    for raw, number in ((False, 1), (True, 0)):
        rig.lane.raw = raw
        sender.outlet.put(big)
        sender.outlet.put(big[1:])
        rig.turn()
        assert [frame.serializer for frame in rig.sent()] == [number, 1]


def test_an_item_too_large_is_refused_without_harm(rig: Rig) -> None:
    rig.lane.peer_body = 10
    sender = Sender(rig, credit=29)
    with pytest.raises(TooLarge, match=r"an item of 11 bytes is over the peer's max_body of 10"):
        sent(sender, "x" * 10)
    assert (sender.gone(), sender.outlet.count, sender.outlet.may_put) == ([], 0, True)
    assert sent(sender, "x" * 9).told == DONE  # the credit is all there
    assert sender.gone() == ["x" * 9]
    assert not sender.outlet.may_put


def test_an_item_that_can_not_be_encoded_is_refused_without_harm(rig: Rig) -> None:
    sender = Sender(rig, credit=21)
    with pytest.raises(CodecError):
        sent(sender, object())
    rig.lane.encoders[1] = None
    with pytest.raises(CodecError, match="no codec for serializer 1"):
        sent(sender, 1)
    rig.lane.encoders[1] = lambda value: bytearray(b"x")
    with pytest.raises(CodecError, match="serializer 1 gave bytearray, not bytes"):
        sent(sender, 1)
    rig.lane.encoders[1] = pack
    assert sent(sender, 1).told == DONE
    assert sender.gone() == [1]


@pytest.mark.parametrize("deed", ["put", "close", "detach", "grant"])
def test_an_encoder_may_use_its_own_stream(rig: Rig, deed: str) -> None:
    sender = Sender(rig)

    def encode(value: Any) -> bytes:
        rig.lane.encoders[1] = pack
        if deed == "put":
            sender.outlet.put("inner" * 300)  # the buffer grows
        elif deed == "close":
            sender.outlet.close(StreamEnded("inside"))
        elif deed == "detach":
            rig.lane.detach()
        else:
            sender.outlet.grant(5)
        return pack(value)

    rig.lane.encoders[1] = encode
    assert sent(sender, 1).told == DONE
    gone = sender.gone()
    assert gone == {"put": ["inner" * 300, 1], "detach": []}.get(deed, [1])
    assert sender.outlet.is_over == (deed == "close")


# Credit


def test_credit_goes_below_zero_by_one_frame_at_most(rig: Rig) -> None:
    sender = Sender(rig, credit=22)
    assert sent(sender, 0).told == DONE
    assert sender.outlet.may_put  # one byte is left
    assert sent(sender, "x" * 1000).told == DONE
    assert not sender.outlet.may_put
    assert sent(sender, 0).told == ()
    assert len(sender.gone()) == 2


def test_what_is_owed_is_paid_first(rig: Rig) -> None:
    sender = Sender(rig, credit=1)
    size = HEAD + len(pack("x" * 500))
    sender.outlet.put("x" * 500)
    job = sent(sender, "next")
    sender.outlet.grant(size - 1)  # to nothing
    settle(job)
    assert job.told == ()
    sender.outlet.grant(1)
    settle(job)
    assert job.told == DONE


@pytest.mark.parametrize("credit", [0, 2**31 - 1 - 999, 2**31 - 1, 2**32 - 1])
def test_no_credit_or_too_much_is_an_error(rig: Rig, credit: int) -> None:
    sender = Sender(rig, credit=1000)
    with pytest.raises(ProtocolError, match=f"stream 1: a credit of {credit} is not allowed"):
        sender.outlet.grant(credit)
    sender.outlet.grant(2**31 - 1 - 1000)
    with pytest.raises(ProtocolError):
        sender.outlet.grant(1)


def test_put_asks_nobody(rig: Rig) -> None:
    sender = Sender(rig, credit=1)
    for _ in range(3):
        sender.outlet.put(0)
    assert sender.gone() == [0, 0, 0]


# Waiting in line


def test_senders_go_in_the_order_they_came(rig: Rig) -> None:
    sender = Sender(rig, credit=1)
    jobs = [sent(sender, n) for n in range(5)]
    assert [job.told for job in jobs] == [DONE, (), (), (), ()]
    for n in (1, 2):
        sender.outlet.grant(21)
        settle(*reversed(jobs))  # whatever the order in which tasks run
        assert sender.gone() == ([0] if n == 1 else []) + [n]
    sender.outlet.grant(1000)
    late = sent(sender, "late")  # there is credit, but others were first
    assert late.told == ()
    settle(late, *jobs)
    assert sender.gone() == [3, 4, "late"]
    assert all(job.told == DONE for job in [*jobs, late])


def test_a_peer_that_does_not_read_holds_senders_up(rig: Rig) -> None:
    sender = Sender(rig)
    rig.lane.paused = True
    assert not sender.outlet.may_put
    jobs = [sent(sender, n) for n in range(3)]
    assert rig.owner.held
    assert set(rig.owner.held) == {sender.outlet}
    sender.outlet.grant(1)  # credit alone does not help
    settle(*jobs)
    assert [job.told for job in jobs] == [()] * 3
    rig.owner.held.clear()
    rig.lane.paused = False
    sender.outlet.wake()
    settle(*jobs)
    assert sender.gone() == [0, 1, 2]
    assert rig.owner.held == []


def test_whoever_is_woken_in_vain_asks_again_to_be_woken(rig: Rig) -> None:
    sender = Sender(rig)
    rig.lane.paused = True
    job = sent(sender, 1)
    rig.owner.held.clear()
    sender.outlet.wake()  # and paused again at once
    settle(job)
    assert job.told == ()
    assert rig.owner.held == [sender.outlet]


def test_waking_nobody_is_fine(rig: Rig) -> None:
    sender = Sender(rig)
    sender.outlet.wake()
    sender.outlet.grant(5)
    assert sender.outlet.may_put


# The end


@pytest.mark.parametrize("waits", [False, True])
def test_sending_after_the_end_raises_why(rig: Rig, waits: bool) -> None:
    sender = Sender(rig, credit=0 if waits else 1000)
    jobs = [sent(sender, n) for n in range(3 if waits else 0)]
    sender.outlet.close(StreamEnded("it has ended"))
    sender.outlet.close(CodecError("too late to be heard"))
    settle(*jobs)
    jobs.append(sent(sender, 9))
    jobs.append(sent(sender, object()))  # nobody encodes it
    assert {job.told for job in jobs} == {("raised", "StreamEnded", "it has ended")}
    assert (sender.gone(), sender.outlet.is_over, sender.outlet.count) == ([], True, 0)


def test_the_error_of_the_end_gathers_no_tracebacks(rig: Rig) -> None:
    sender = Sender(rig)
    error = StreamEnded("over")
    sender.outlet.close(error)
    depths = []
    for n in range(3):
        sent(sender, n)
        trace, depth = error.__traceback__, 0
        while trace is not None:
            trace, depth = trace.tb_next, depth + 1
        depths.append(depth)
    assert len(set(depths)) == 1


# Pumping


def test_a_pump_sends_all_and_says_so(rig: Rig) -> None:
    sender = Sender(rig)
    job = Job(sender.outlet.pump(items(1, 2, 3))).step()
    assert job.told == ("returned", True)
    assert (sender.gone(), sender.outlet.count) == ([1, 2, 3], 3)


def test_a_pump_keeps_to_the_credit(rig: Rig) -> None:
    sender = Sender(rig, credit=22)
    job = Job(sender.outlet.pump(items(*range(5)))).step()
    assert sender.gone() == [0, 1]
    sender.outlet.grant(41)  # one was owed 20: one more
    settle(job)
    assert sender.gone() == [2]
    sender.outlet.grant(1000)
    settle(job)
    assert sender.gone() == [3, 4]
    assert job.told == ("returned", True)


@pytest.mark.parametrize("credit", [0, 21, 1000])
def test_a_pump_stops_when_the_stream_has_ended(rig: Rig, credit: int) -> None:
    sender = Sender(rig, credit=credit)
    taken = []

    async def counted() -> AsyncIterator[int]:
        for n in range(100):
            taken.append(n)
            if n == 5:
                sender.outlet.close(StreamEnded("x"))
            yield n

    job = Job(sender.outlet.pump(counted())).step()
    if not job.told:
        sender.outlet.close(StreamEnded("x"))
        settle(job)
    assert job.told == ("returned", False)
    assert sender.outlet.count == len(taken) - 1 == {0: 0, 21: 1, 1000: 5}[credit]


def test_a_pump_of_a_peer_that_does_not_read(rig: Rig) -> None:
    sender = Sender(rig)
    rig.lane.paused = True
    job = Job(sender.outlet.pump(items(1, 2))).step()
    assert rig.owner.held == [sender.outlet]
    rig.lane.paused = False
    sender.outlet.wake()
    settle(job)
    assert sender.gone() == [1, 2]


def test_pumps_side_by_side_take_turns(rig: Rig) -> None:
    """After each 64 KiB others have their turn, though there is credit for all."""
    senders = [Sender(rig, id=id, credit=2**30) for id in (1, 2)]
    jobs = [Job(s.outlet.pump(items(*["x" * 6000] * 100))) for s in senders]
    counts = []
    while not all(job.told for job in jobs):
        for job in jobs:
            if job.can_go:
                job.step()
        counts.append(tuple(sender.outlet.count for sender in senders))
    steps = [now[0] - before[0] for before, now in pairwise(counts)]
    assert counts[0] == (11, 11)  # 66,000 bytes and their headers
    assert set(steps) <= {11, 1}
    assert counts[-1] == (100, 100)
    assert all(first == second for first, second in counts)


def test_what_send_has_sent_counts_towards_the_turn(rig: Rig) -> None:
    sender = Sender(rig, credit=2**30)
    sender.outlet.put("x" * 70_000)
    job = Job(sender.outlet.pump(items(1, 2))).step()
    assert (job.told, sender.outlet.count) == ((), 2)
    settle(job)
    assert job.told == ("returned", True)


def test_a_pump_that_meets_a_bad_item_raises_and_the_stream_goes_on(rig: Rig) -> None:
    sender = Sender(rig)
    job = Job(sender.outlet.pump(items(1, object(), 3))).step()
    assert job.told[:2] == ("raised", "CodecError")
    assert sent(sender, 4).told == DONE
    assert sender.gone() == [1, 4]


def test_two_pumps_into_one_stream_share_it(rig: Rig) -> None:
    sender = Sender(rig, credit=1)
    jobs = [Job(sender.outlet.pump(items(*[name] * 3))) for name in "ab"]
    settle(*jobs)
    for _ in range(5):
        sender.outlet.grant(22)
        settle(*jobs)
    assert all(job.told == ("returned", True) for job in jobs)
    assert sender.gone() == ["a", "a", "b", "a", "b", "b"]  # whoever has sent stands behind


def test_an_item_that_was_not_awaited_is_sent_all_the_same(rig: Rig) -> None:
    sender = Sender(rig)
    awaitable = sender.outlet.send(1)
    assert sender.gone() == [1]
    assert Job(awaitable).step().told == DONE


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_signals_of_iteration_from_an_encoder_end_no_pump(rig: Rig, kind: type[Exception]) -> None:
    def encode(value: Any) -> bytes:
        raise kind("from the encoder")

    sender = Sender(rig)
    rig.lane.encoders[1] = encode
    told = Job(sender.outlet.pump(items(1, 2))).step().told
    assert told[:2] == ("raised", "CodecError")
    assert sender.outlet.count == 0


@pytest.mark.asyncio
async def test_what_send_returns_can_be_awaited_in_every_way(twin: SimpleNamespace) -> None:
    """Whether it is done already depends on credit: who awaits it must not have to know."""
    sender = Sender(Rig(twin), credit=10_000)
    await sender.outlet.send(0)
    await asyncio.create_task(sender.outlet.send(1))
    await asyncio.gather(sender.outlet.send(2), sender.outlet.send(3))
    await asyncio.wait_for(sender.outlet.send(4), 30.0)
    async with asyncio.TaskGroup() as group:
        group.create_task(sender.outlet.send(5))

    @coroutine
    def by_generator() -> Generator[Any, None, Any]:
        yield from sender.outlet.send(6).__await__()

    await by_generator()
    task = asyncio.create_task(sender.outlet.send(7))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sender.gone() == list(range(8))


@pytest.mark.asyncio
@pytest.mark.compiled
async def test_a_turn_is_one_turn() -> None:
    """What a pump awaits each 64 KiB, here by Python's own hand."""
    sender = Sender(Rig(open_twin("compiled")))
    turn = type(sender.outlet.send(0))
    log: list[str] = []
    asyncio.get_running_loop().call_soon(log.append, "others")
    await turn()
    assert log == ["others"]
    await asyncio.create_task(turn())
    by_hand = turn()
    assert by_hand.send(None) is None
    with pytest.raises(StopIteration):
        by_hand.send(None)
    with pytest.raises(KeyError):
        turn().throw(KeyError("k"))
    by_hand.close()


def test_closing_wakes_all_in_line_but_those_that_have_gone(rig: Rig) -> None:
    sender = Sender(rig, credit=0)
    jobs = [sent(sender, n) for n in range(3)]
    jobs[1].cancel()
    sender.outlet.close(StreamEnded("x"))
    settle(*jobs)
    assert [job.told[1] for job in jobs] == ["StreamEnded", "CancelledError", "StreamEnded"]
