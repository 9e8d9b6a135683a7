"""Lane: HELLO gate, order, pauses, the end, errors of the owner, calls from inside."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from fastrpc import wire
from fastrpc.errors import ConfigError
from tests.frame.rig import PURE, Owner, Rig, pack

HELLO = PURE.encode_frame(1, 0, serializer=2, payload=b"{}")
PING = PURE.encode_frame(0, 77, heartbeat=True)


@pytest.fixture
def rig(twin: SimpleNamespace) -> Rig:
    return Rig(twin)


def steps(rig: Rig) -> list[str]:
    return [what for what, *_ in rig.owner.log]


# Before HELLO, and while it is answered


def test_before_hello_everything_is_handed_up_frame_by_frame(twin: SimpleNamespace) -> None:
    rig = Rig(twin, opened=False)
    rig.lane.feed(HELLO + rig.asked("echo", 1, id=1, arg=1) + PING)
    assert [(what, len(frames)) for what, frames in rig.owner.log] == [("frames", 1)] * 3
    assert (rig.lane.calls_in, rig.lane.last_id, rig.lane.bound_method(1)) == (0, 0, None)


def test_calls_right_behind_hello_are_answered(twin: SimpleNamespace) -> None:
    rig = Rig(twin, opened=False)

    def welcome(owner: Owner, frames: list[Any]) -> None:
        owner.lane.opened = True
        owner.lane.max_body = 2**20
        owner.lane.send(b"hello ")

    rig.owner.does["frames"] = welcome
    rig.lane.feed(HELLO + rig.asked("echo", 1, id=1) + rig.asked("echo", 2, id=2))
    data = rig.taken()
    assert data.startswith(b"hello ")
    frames = PURE.FrameDecoder().feed(data[6:])
    assert [frame.id for frame in frames] == [1, 2]
    assert steps(rig) == ["frames"]


def test_a_refused_hello_ends_it(twin: SimpleNamespace) -> None:
    rig = Rig(twin, opened=False)

    def refuse(owner: Owner, frames: list[Any]) -> None:
        raise ValueError("no")

    rig.owner.does["frames"] = refuse
    rig.lane.feed(HELLO + rig.asked("echo", 1, id=1))
    rig.lane.feed(rig.asked("echo", 1, id=1))
    assert steps(rig) == ["frames", "broken"]
    assert rig.owner.log[-1] == ("broken", ("ValueError", "no"))


def test_limits_before_hello_are_those_of_the_lane(twin: SimpleNamespace) -> None:
    rig = Rig(twin, opened=False, max_body=10)
    rig.lane.feed(PURE.encode_frame(1, 0, payload=bytes(11)))
    ((_, (frame,)),) = rig.owner.log
    assert frame["oversize"] == 11


# Frames of the slow lane


def test_those_of_one_read_come_together_before_what_is_behind_them(rig: Rig) -> None:
    rig.lane.feed(PING + PING + rig.asked("fail", id=1) + PING)
    assert [(what, len(told[0])) for what, *told in rig.owner.log if what == "frames"] == [
        ("frames", 2),
        ("frames", 1),
    ]
    assert steps(rig) == ["frames", "raised", "frames"]


def test_nothing_behind_a_frame_that_breaks_the_lane(rig: Rig) -> None:
    def stop(owner: Owner, frames: list[Any]) -> None:
        raise KeyError("bad")

    rig.owner.does["frames"] = stop
    rig.lane.feed(PING + rig.asked("echo", id=1))
    assert steps(rig) == ["frames", "broken"]
    assert rig.lane.calls_in == 0


def test_an_owner_may_let_go_while_it_takes_frames(rig: Rig) -> None:
    rig.owner.does["frames"] = lambda owner, frames: owner.lane.detach()
    rig.lane.feed(PING + rig.asked("echo", id=1) + rig.asked("echo", id=2))
    assert steps(rig) == ["frames"]
    assert (rig.lane.calls_in, rig.written) == (0, b"")


def test_bytes_that_are_no_frame_break_it(rig: Rig) -> None:
    rig.lane.feed(rig.asked("echo", 5, id=1) + b"nonsense")
    assert len(rig.sent()) == 1  # what came before was answered
    assert steps(rig) == ["broken"]
    _what, (kind, _text, at, seen) = rig.owner.log[0]
    assert (kind, at, seen) == ("FrameError", "magic", b"nonsense")
    rig.lane.feed(rig.asked("echo", 5, id=2))
    assert (steps(rig), rig.written) == (["broken"], b"")


@pytest.mark.parametrize("what", ["start", "bind", "raised", "unsendable", "expired"])
def test_an_owner_that_fails_breaks_the_lane(rig: Rig, what: str) -> None:
    def fail(owner: Owner, thing: Any) -> None:
        raise OSError(what)

    rig.owner.does[what] = fail
    method = {"start": "task", "bind": "echo", "raised": "fail", "unsendable": "odd"}.get(what, "")
    bad = {"payload": b"\xc1"} if what == "bind" else {}
    if what == "expired":
        rig.owner.does["start"] = lambda owner, thing: setattr(rig, "now", rig.now + 9.0)
        data = rig.asked("task", id=1, time=1) + rig.asked("echo", id=2, time=1)
        rig.lane.feed(data + rig.asked("echo", id=3))
    else:
        rig.lane.feed(rig.asked(method, id=1, **bad) + rig.asked("echo", id=2))
    assert rig.owner.log[-1] == ("broken", ("OSError", what))
    assert rig.written == b""


@pytest.mark.parametrize("what", ["answered", "undecodable", "room", "tick"])
def test_an_owner_that_fails_on_the_callers_side(rig: Rig, what: str) -> None:
    def fail(owner: Owner, thing: Any) -> None:
        raise OSError(what)

    if what == "tick":
        rig.owner.does[what] = fail
        with pytest.raises(OSError, match="tick"):
            rig.call("m")
        return
    waiters = [rig.call("m"), rig.call("m")]
    rig.owner.does[what] = fail
    rig.lane.crowded = what == "room"
    payload = b"\xc1" if what == "undecodable" else pack(5)
    rig.answer(1, payload=payload, status=44 if what == "answered" else 0)
    assert rig.owner.log[-1] == ("broken", ("OSError", what))
    assert waiters[0].done() == (what == "room")


def test_what_ends_the_program_passes_and_loses_nothing(rig: Rig) -> None:
    def leave(owner: Owner, frame: Any) -> None:
        if frame.id == 2:
            raise KeyboardInterrupt

    rig.owner.does["raised"] = leave
    data = rig.asked("echo", 1, id=1) + rig.asked("fail", id=2) + rig.asked("echo", 3, id=3)
    with pytest.raises(KeyboardInterrupt):
        rig.lane.feed(data)
    assert [frame.id for frame in rig.sent()] == [1]
    rig.lane.feed(rig.asked("echo", 4, id=4))
    assert [frame.id for frame in rig.sent()] == [3, 4]


# A peer that does not read


def test_a_paused_lane_keeps_calls_back(rig: Rig) -> None:
    rig.lane.paused = True
    data = b"".join(rig.asked("echo", n, id=n) for n in (1, 2, 3))
    rig.lane.feed(data)
    assert [frame.id for frame in rig.sent()] == [1]
    assert (rig.lane.stalled, rig.lane.waiting) == (True, True)
    rig.lane.feed(rig.asked("echo", 4, id=4))
    assert rig.written == b""
    rig.lane.resume()  # still paused: one more, then wait again
    assert [frame.id for frame in rig.sent()] == [2]
    rig.lane.paused = False
    rig.lane.resume()
    assert [frame.id for frame in rig.sent()] == [3, 4]
    assert (rig.lane.stalled, rig.lane.waiting) == (False, False)
    rig.lane.resume()
    assert rig.written == b""


def test_what_is_kept_back_needs_no_further_byte_to_go_on(rig: Rig) -> None:
    """The first frame came in two pieces: what it had to wait for says nothing of the next."""
    long = rig.asked("pause", "x" * 200, id=1)
    rig.lane.feed(long[:50])
    rig.lane.feed(long[50:] + rig.asked("echo", 2, id=2))
    assert [frame.id for frame in rig.sent()] == [1]
    rig.lane.paused = False
    rig.lane.resume()
    assert [frame.id for frame in rig.sent()] == [2]


def test_a_large_body_may_end_in_a_stall(rig: Rig) -> None:
    rig.receive(rig.asked("pause", bytes(100_000), id=1) + rig.asked("echo", 2, id=2), most=50_000)
    assert [frame.id for frame in rig.sent()] == [1]
    assert rig.lane.stalled
    rig.lane.paused = False
    rig.lane.resume()
    assert [frame.id for frame in rig.sent()] == [2]


def test_a_broken_lane_is_not_woken(rig: Rig) -> None:
    def fail(owner: Owner, thing: Any) -> None:
        raise OSError("frames")

    rig.owner.does["frames"] = fail
    rig.lane.feed(PING[:10])
    rig.lane.feed(PING[10:] + rig.asked("pause", id=1) + rig.asked("echo", id=2))
    assert rig.owner.log[-1][0] == "broken"
    rig.lane.paused = False
    rig.lane.resume()
    rig.lane.feed(rig.asked("echo", id=3))
    assert rig.written == b""


def test_a_stalled_lane_broken_by_what_it_hands_up_is_not_woken(rig: Rig) -> None:
    def fail(owner: Owner, thing: Any) -> None:
        raise OSError("frames")

    rig.owner.does["frames"] = fail
    rig.lane.paused = True
    rig.lane.feed(rig.asked("nobody", id=1) + rig.asked("echo", id=2))
    assert rig.owner.log[-1][0] == "broken"
    assert not rig.lane.stalled
    rig.lane.paused = False
    rig.lane.resume()
    assert rig.written == b""


def test_crowded_callers_are_told_of_room_after_each_read(rig: Rig) -> None:
    rig.call("m")
    rig.lane.crowded = True
    rig.answer(1)
    rig.lane.feed(b"")
    assert steps(rig) == ["tick", "room", "room"]


# The end


def test_detaching_gives_back_the_open_calls(rig: Rig) -> None:
    waiters = [rig.call("m", timeout=timeout) for timeout in (0.0, 5.0)]
    rig.lane.send(b"queued")
    gone = rig.lane.detach()
    assert [(id, slot[0], slot[2]) for id, slot in gone] == [
        (1, waiters[0], "m"),
        (2, waiters[1], "m"),
    ]
    assert (rig.lane.ready, rig.lane.opened, rig.lane.unsent) == (False, False, 0)
    assert rig.lane.detach() == []


def test_a_detached_lane_takes_and_writes_nothing(rig: Rig) -> None:
    rig.lane.feed(rig.asked("echo", id=1)[:25])
    rig.lane.detach()
    assert not rig.lane.waiting
    writes = rig.writes
    rig.lane.feed(rig.asked("echo", id=1) + PING)
    rig.lane.send(b"x")
    rig.lane.reply(1, 1, b"x")
    rig.turn()
    rig.lane.flush()
    assert (rig.writes, rig.owner.log) == (writes, [])


def test_a_detached_lane_is_not_woken(rig: Rig) -> None:
    rig.lane.paused = True
    rig.lane.feed(rig.asked("echo", id=1) + rig.asked("echo", id=2))
    rig.lane.detach()
    assert not rig.lane.stalled
    rig.lane.resume()
    rig.lane.feed(rig.asked("echo", id=3))
    assert rig.lane.calls_in == 1


@pytest.mark.parametrize("size", [100, 100_000])
def test_a_body_that_ends_after_the_lane_is_of_no_interest(rig: Rig, size: int) -> None:
    data = rig.asked("echo", bytes(size), id=1)
    rig.lane.feed(data[:-10])
    rig.lane.detach()
    rig.receive(data[-10:])
    assert (rig.owner.log, rig.written) == ([], b"")


def test_a_handler_may_end_its_own_lane(rig: Rig) -> None:
    rig.call("m")
    rig.taken()
    rig.lane.feed(rig.asked("leave", id=1) + rig.asked("echo", id=2))
    assert (rig.lane.calls_in, rig.written, len(rig.lane.table)) == (1, b"", 0)


# Calls from inside


def test_a_handler_may_call_back(rig: Rig) -> None:
    rig.ask("call", 5)
    call, reply = rig.sent()
    assert (call.reply, call.name, reply.reply) == (False, b"echo", True)
    assert msgspec.msgpack.decode(reply.payload) == "called"
    rig.answer(1, 5)
    assert rig.waiters[0].result() == 5


def test_a_handler_may_feed_its_own_lane(rig: Rig) -> None:
    inner = rig.asked("echo", "inner", id=2)
    rig.ask("feed", inner, id=1)
    assert [frame.id for frame in rig.sent()] == [1, 2]
    assert rig.owner.log == []


@pytest.mark.parametrize("cut", range(1, 36))
def test_what_a_handler_feeds_comes_behind_what_was_there(rig: Rig, cut: int) -> None:
    """The lane holds a part of call 2 when the handler of call 1 feeds it the rest."""
    second, third = rig.asked("echo", 2, id=2), rig.asked("echo", 3, id=3)
    assert len(second) == 38
    first = rig.asked("feed", second[cut:] + third, id=1)
    rig.lane.feed(first + second[:cut])
    assert rig.owner.log == []
    assert [frame.id for frame in rig.sent()] == [1, 2, 3]
    assert not rig.lane.waiting


def test_a_handler_may_feed_the_rest_of_a_large_body(rig: Rig) -> None:
    large = rig.asked("echo", bytes(100_000), id=2)
    third = rig.asked("echo", 3, id=3)
    rig.lane.feed(rig.asked("feed", large[200:] + third, id=1) + large[:200])
    assert [(frame.id, len(frame.payload)) for frame in rig.sent()] == [
        (1, 1),
        (2, 100_005),
        (3, 1),
    ]


def test_a_handler_called_with_a_large_body_may_feed(rig: Rig) -> None:
    inner = rig.asked("echo", 2, id=2)
    rig.receive(rig.asked("feed", inner, id=1))
    large = rig.asked("feed", rig.asked("echo", "x" * 40_000, id=4), id=3)
    rig.receive(large, most=30_000)
    assert [frame.id for frame in rig.sent()] == [1, 2, 3, 4]
    assert not rig.lane.waiting


def test_a_handler_may_feed_after_a_large_body_has_begun(rig: Rig) -> None:
    large = rig.asked("echo", bytes(100_000), id=2)
    rig.owner.does["frames"] = lambda owner, frames: owner.lane.feed(
        large[200:] + rig.asked("echo", 3, id=3)
    )
    rig.lane.feed(PING + large[:200])
    assert [(frame.id, len(frame.payload)) for frame in rig.sent()] == [(2, 100_005), (3, 1)]


def test_what_the_owner_feeds_while_it_takes_frames_is_taken_in(rig: Rig) -> None:
    def more(owner: Owner, frames: list[Any]) -> None:
        if len(steps(rig)) < 3:
            owner.lane.feed(PING)

    rig.owner.does["frames"] = more
    rig.lane.feed(PING)
    assert steps(rig) == ["frames"] * 3


@pytest.mark.parametrize("again", [False, True])
def test_reads_may_come_while_a_handler_runs(rig: Rig, again: bool) -> None:
    """As with a handler that runs the loop: the memory the lane reads from must not be hit."""
    inner = rig.asked("echo", "inner", id=3)

    def nested(*args: Any) -> int:
        rig.receive(inner)
        if again:
            rig.lane.get_buffer(-1)  # asked for, and then there was nothing to read
        return 1

    rig.lane.router[b"nested"] = rig.twin.Method(b"nested", 0, nested, rig.methods["echo"].decoders)
    rig.receive(rig.asked("nested", id=1) + rig.asked("echo", "outer", id=2))
    rig.receive(rig.asked("echo", "last", id=4))
    told = [(frame.id, msgspec.msgpack.decode(frame.payload)) for frame in rig.sent()]
    assert told == [(1, 1), (2, "outer"), (3, "inner"), (4, "last")]


def test_other_lanes_may_read_while_a_handler_runs(rig: Rig) -> None:
    other = Rig(rig.twin)
    lane = rig.twin.Lane(other.owner, rig.share, 2**20)
    lane.router, lane.encoders, lane.opened = other.lane.router, other.lane.encoders, True
    lane.attach(other._write, other._writelines)
    other.lane = lane

    def nested(*args: Any) -> int:
        other.receive(other.asked("echo", "o" * 200, id=1))
        return 1

    rig.lane.router[b"nested"] = rig.twin.Method(b"nested", 0, nested, rig.methods["echo"].decoders)
    rig.receive(rig.asked("nested", id=1) + rig.asked("echo", "outer", id=2))
    assert [frame.id for frame in rig.sent()] == [1, 2]
    assert [msgspec.msgpack.decode(frame.payload) for frame in other.sent()] == ["o" * 200]
    other.receive(other.asked("echo", "after", id=2))
    assert len(other.sent()) == 1


def test_a_read_into_the_shared_memory_while_a_fed_lane_works(rig: Rig) -> None:
    def nested(*args: Any) -> int:
        rig.receive(rig.asked("echo", "inner", id=2))
        return 1

    rig.lane.router[b"nested"] = rig.twin.Method(b"nested", 0, nested, rig.methods["echo"].decoders)
    rig.lane.feed(rig.asked("nested", id=1))
    assert [frame.id for frame in rig.sent()] == [1, 2]


def test_the_end_of_a_large_body_while_the_owner_takes_frames(rig: Rig) -> None:
    large = rig.asked("echo", bytes(100_000), id=1)
    rig.owner.does["frames"] = lambda owner, frames: rig.receive(large[200:])
    rig.receive(PING + large[:200])
    assert [(frame.id, len(frame.payload)) for frame in rig.sent()] == [(1, 100_005)]


def test_calls_made_while_the_lane_reads_leave_with_its_answers(rig: Rig) -> None:
    writes = rig.writes
    rig.lane.feed(rig.asked("call", 1, id=1) + rig.asked("call", 2, id=2))
    assert rig.writes == writes + 1


def test_a_waiters_callback_may_resume_the_lane(rig: Rig) -> None:
    def go_on(owner: Owner, frame: Any) -> None:
        owner.lane.paused = False
        owner.lane.resume()

    rig.owner.does["start"] = go_on
    rig.lane.feed(rig.asked("task", id=1) + rig.asked("echo", id=2))
    assert [frame.id for frame in rig.sent()] == [2]


def test_lanes_of_a_loop_share_their_memory(twin: SimpleNamespace) -> None:
    rig = Rig(twin)
    other = twin.Lane(rig.owner, rig.share, 100)
    view = rig.lane.get_buffer(-1)
    assert view is other.get_buffer(1) is rig.share.view
    assert len(view) == 256 * 1024
    del rig, other
    view[:5] = b"still"  # whoever holds the view holds the memory
    assert bytes(view[:5]) == b"still"


def test_the_read_after_a_large_body_takes_its_head_only(twin: SimpleNamespace) -> None:
    rig = Rig(twin, max_body=2**21)
    small = PURE.encode_frame(0, 9, serializer=1, arg=1, payload=pack(()))
    large = b"".join(
        PURE.encode_frame(0, id, serializer=0, arg=1, payload=bytes([id]) * 2**20) for id in (2, 3)
    )
    whole = len(rig.lane.get_buffer(-1))
    rig.receive(large + small)
    assert [frame["id"] for _, frames in rig.owner.log for frame in frames] == [2, 3, 9]
    assert len(rig.lane.get_buffer(-1)) == whole
    rig.receive(PURE.encode_frame(0, 10, serializer=0, arg=1, payload=bytes(2**20)))
    assert len(rig.lane.get_buffer(-1)) == 2048


def test_a_share_says_what_it_was_given(twin: SimpleNamespace) -> None:
    given = [object() for _ in range(4)]
    share = twin.LoopShare(*given, 7, "loop")
    told = [share.create_future, share.call_soon, share.clock, share.is_running]
    assert told == given
    assert (share.thread, share.loop) == (7, "loop")


def test_a_lane_begins_closed_and_within_the_baseline(twin: SimpleNamespace) -> None:
    rig = Rig(twin, opened=False)
    lane = twin.Lane(rig.owner, rig.share, 100)
    assert (lane.owner, lane.share) == (rig.owner, rig.share)
    assert not (lane.opened)
    assert not (lane.ready)
    assert not (lane.draining)
    assert not (lane.paused)
    assert not (lane.stalled)
    assert not (lane.crowded)
    assert not (lane.ticking)
    assert not (lane.raw)
    assert not (lane.waiting)
    assert not (lane.unsent)
    assert (lane.max_body, lane.magic) == (100, wire.MAGIC)
    assert (lane.peer_body, lane.peer_calls) == (wire.BASELINE_BODY, wire.BASELINE_CALLS)
    limits = wire.Limits()
    assert (lane.max_depth, lane.max_items) == (limits.max_depth, limits.max_items)
    assert (lane.max_methods, lane.peer_methods) == (limits.max_methods, limits.max_methods)
    assert (lane.serializer, lane.router) == (wire.Serializer.MSGPACK, None)
    assert lane.encoders == lane.decoders == [None] * wire.SERIALIZERS


@pytest.mark.parametrize("limits", [{"max_body": 0}, {"max_body": 2**31}, {"first_id": 0}])
def test_a_lane_refuses_what_it_can_not_keep(twin: SimpleNamespace, limits: dict[str, int]) -> None:

    rig = Rig(twin)
    with pytest.raises(ConfigError):
        twin.Lane(rig.owner, rig.share, **({"max_body": 1} | limits))
