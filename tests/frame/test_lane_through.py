"""A lane whose methods have a `through`: what it gives is answered, or handed up."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from fastrpc import wire
from tests.frame.rig import PURE, Rig
from tests.frame.twins import shown


class Owner:
    """Stands behind a rig's own owner for what only chains hand up."""

    def __init__(self, rig: Rig) -> None:
        self._owner = rig.owner
        self.log: list[Any] = []
        for name in ("waits", "replied"):
            setattr(self._owner, name, getattr(self, name))

    def waits(self, method: Any, frame: Any, args: Any, rest: Any) -> None:
        self.log.append(("waits", method.name, shown(frame), list(args), rest))

    def replied(self, method: Any, frame: Any, reply: Any) -> None:
        self.log.append(("replied", method.name, shown(frame), reply))


class Stage:
    """A rig whose method "task", which the lane may not run itself, is gone through."""

    def __init__(self, twin: SimpleNamespace, gives: Any) -> None:
        self.rig = Rig(twin)
        self.owner = Owner(self.rig)
        self.seen: list[Any] = []
        self.gives = gives
        self.method = self.rig.methods["task"]
        self.method.through = self.through

    def through(self, owner: Any, *call: Any) -> Any:
        assert owner is self.rig.owner
        self.seen.append(call)
        if isinstance(self.gives, BaseException):
            raise self.gives
        return self.gives

    def counts(self) -> tuple[int, int]:
        return self.method.calls, self.method.errors


def test_a_reply_is_sent(twin: SimpleNamespace) -> None:
    stage = Stage(twin, (True, twin.ReplyFields("value", ())))
    stage.rig.ask("task", 1, 2, time=5000, metadata=b"\x01k\x00\x01v")
    ((flags, id, time, metadata, args),) = stage.seen
    assert (flags, id, time, metadata, list(args)) == (1, 1, 5000, b"\x01k\x00\x01v", [1, 2])
    stage.rig.turn()
    (frame,) = stage.rig.sent()
    assert (frame.reply, frame.id, frame.status, frame.time) == (True, 1, 0, 0)
    assert msgspec.msgpack.decode(frame.payload) == "value"
    assert stage.counts() == (1, 0)
    assert stage.owner.log == stage.rig.owner.log == []


def test_a_reply_with_metadata_is_handed_up(twin: SimpleNamespace) -> None:
    reply = twin.ReplyFields("value", {"k": "v"})
    stage = Stage(twin, (True, reply))
    stage.rig.ask("task", 1)
    ((what, name, frame, given),) = stage.owner.log
    assert (what, name, frame["id"]) == ("replied", b"task", 1)
    assert given is reply
    stage.rig.turn()
    assert stage.rig.sent() == []
    assert stage.counts() == (1, 0)


@pytest.mark.parametrize("rest", [None, KeyError("before"), "rest"])
def test_what_is_not_over_is_handed_up(twin: SimpleNamespace, rest: Any) -> None:
    stage = Stage(twin, (False, rest))
    stage.rig.ask("task", 1, 2)
    ((what, name, frame, args, given),) = stage.owner.log
    assert (what, name, args) == ("waits", b"task", [1, 2])
    assert (frame["id"], frame["payload"]) == (1, msgspec.msgpack.encode([1, 2]))
    assert given is rest
    stage.rig.turn()
    assert stage.rig.sent() == []
    assert stage.counts() == (1, 0)


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(1)])
def test_an_error_is_handed_up(twin: SimpleNamespace, error: BaseException) -> None:
    stage = Stage(twin, error)
    stage.rig.ask("task", 1)
    assert [entry[0] for entry in stage.rig.owner.log] == ["raised"]
    assert stage.rig.owner.log[0][-1] == shown(error)
    assert stage.counts() == (1, 1)


@pytest.mark.parametrize("packed", [(), b"md"])
def test_nobody_gets_the_reply_of_a_oneway_call(twin: SimpleNamespace, packed: Any) -> None:
    stage = Stage(twin, (True, twin.ReplyFields(object(), packed)))
    stage.rig.ask("task", 1, oneway=True)
    assert stage.seen[0][0] & wire.FLAG_ONEWAY
    stage.rig.turn()
    assert stage.rig.sent() == stage.owner.log == stage.rig.owner.log == []


def test_a_value_that_can_not_be_sent_is_handed_up(twin: SimpleNamespace) -> None:
    stage = Stage(twin, (True, twin.ReplyFields(object())))
    stage.rig.ask("task", 1)
    assert [entry[0] for entry in stage.rig.owner.log] == ["unsendable"]
    assert stage.counts() == (1, 1)


def test_calls_through_a_chain_and_others_are_answered_in_order(twin: SimpleNamespace) -> None:
    stage = Stage(twin, (True, twin.ReplyFields("through")))
    rig = stage.rig
    asked = [rig.asked(name, n, id=n + 1) for n, name in enumerate(["task", "echo", "task"])]
    rig.lane.feed(b"".join(asked))
    rig.turn()
    frames = PURE.FrameDecoder(wire.BODY_MAX).feed(rig.taken())
    told = [msgspec.msgpack.decode(frame.payload) for frame in frames]
    assert told == ["through", 1, "through"]
