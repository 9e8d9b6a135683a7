"""Schedules of streams: who pushes, takes, grants, waits, is cancelled, in any order."""

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st

from fastrpc.errors import CodecError, StreamEnded
from tests.frame.halves import Job, Receiver, Sender
from tests.frame.rig import PURE, Rig, pack

Event = tuple[Any, ...]

#: Streams by their place: number, and whether it is one of ours.
STREAMS = [(1, True), (2, True), (1, False)]
VALUES: list[Any] = [0, "text", None, [[[1]]] * 25, bytes(40_000), "x" * 30_000, object]
BODIES = [b"\x05", b"", b"\xc1", pack(["x" * 80]), b"\x91" * 70 + b"\xc0", bytes(200)]

_AT = st.integers(0, len(STREAMS) - 1)
_VALUE = st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5, 6])
_JOB = st.integers(0, 7)
_FRAME = st.fixed_dictionaries(
    {"kind": st.sampled_from([3] * 9 + [4]), "at": _AT, "payload": st.sampled_from(BODIES)},
    optional={
        "serializer": st.sampled_from([0, 1, 1, 1, 1, 2, 9]),
        "bits": st.sampled_from([0, 0, 0, 0x10, 0x20, 0x80, 0x60]),
        "name": st.sampled_from([b"", b"n"]),
        "metadata": st.sampled_from([b"", b"md"]),
        "heartbeat": st.sampled_from([False, False, True]),
    },
)


def _weighted(**parts: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    names = [name for name, (weight, _) in parts.items() for _ in range(weight)]
    return st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), parts[name][1]))


_FLIPS: st.SearchStrategy[Any] = st.one_of(
    st.just([]), st.just([]),
    st.lists(st.tuples(st.integers(0, 2**12), st.sampled_from([0, 1, 3, 20, 128, 255])), max_size=2),
)  # fmt: skip

EVENTS = _weighted(
    push=(6, st.tuples(_AT, st.sampled_from(BODIES), st.sampled_from([1, 20, 60, 500]), st.booleans())),
    receive=(6, st.tuples(st.lists(_FRAME, min_size=1, max_size=5), _FLIPS, st.sampled_from([2**30, 9]))),
    take=(5, _AT),
    wait=(1, _AT),
    read=(4, st.tuples(_AT, st.booleans())),
    end=(1, st.tuples(_AT, st.booleans())),
    drop=(1, _AT),
    add_sink=(1, st.tuples(_AT, _AT)),
    drop_sink=(1, _AT),
    send=(5, st.tuples(_AT, _VALUE)),
    put=(1, st.tuples(_AT, _VALUE)),
    pump=(4, st.tuples(_AT, st.lists(_VALUE, max_size=4), st.integers(0, 2))),
    grant=(5, st.tuples(_AT, st.sampled_from([1, 20, 25, 100, 50_000, 0, 2**31 - 1]))),
    wake=(1, _AT),
    close=(1, _AT),
    step=(8, _JOB),
    settle=(3, st.just(0)),
    cancel=(3, _JOB),
    leave=(1, _JOB),
    pause=(2, st.booleans()),
    raw=(1, st.booleans()),
    peer_body=(1, st.sampled_from([10, 2**20])),
    turn=(2, st.just(0)),
    detach=(1, st.just(0)),
)  # fmt: skip

SCHEDULES = st.lists(EVENTS, min_size=1, max_size=25)


class Stage:
    """All streams of one twin's lane, and the coroutines that use them."""

    def __init__(self, twin: SimpleNamespace, window: int, credit: int) -> None:
        self.rig = Rig(twin)
        self.receivers = [Receiver(self.rig, id=id, own=own, window=window) for id, own in STREAMS]
        self.senders = [Sender(self.rig, id=id, own=own, credit=credit) for id, own in STREAMS]
        self.jobs: list[Job] = []

    def play(self, event: Event) -> Any:
        """Let *event* happen and return what came of it, in a form that can be compared."""
        what, given = event
        try:
            return _PLAYS[what](self, *(given if isinstance(given, tuple) else (given,)))
        except Exception as exc:
            # Words of Python's own about arguments it was given are not the twins'.
            return type(exc).__name__, str(exc) if not isinstance(exc, TypeError) else ""

    def state(self) -> dict[str, Any]:
        """Return everything that can be seen."""
        inlets = [receiver.inlet for receiver in self.receivers]
        outlets = [sender.outlet for sender in self.senders]
        return {
            "inlets": [(len(inlet), inlet.count, inlet.is_over) for inlet in inlets],
            "outlets": [(outlet.count, outlet.is_over, outlet.may_put) for outlet in outlets],
            "odd": [(receiver.odd, receiver.explained) for receiver in self.receivers],
            "jobs": [(self._told(job), job.waits and job.waits.told) for job in self.jobs],
            "held": [outlets.index(outlet) for outlet in self.rig.owner.held],
            "waiters": [repr(waiter.told) for waiter in self.rig.waiters],
            "written": bytes(self.rig.written),
            "lane": self.rig.state(),
            "log": self.rig.owner.log,
        }

    @staticmethod
    def _told(job: Job) -> Any:
        # Of a TypeError the words are Python's own.
        return job.told[:2] if job.told[1:2] == ("TypeError",) else job.told

    def job(self, awaitable: Any) -> None:
        self.jobs.append(Job(awaitable).step())

    def close(self) -> None:
        """End all that was begun, so that nothing warns."""
        for job in self.jobs:
            job.close()


async def _items(values: list[int], pauses: int) -> AsyncIterator[Any]:
    for value in values:
        for _ in range(pauses):
            await _Pause()
        yield VALUES[value]


class _Pause:
    def __await__(self) -> Any:
        yield


async def _next(reader: Any, default: bool) -> Any:
    return await (anext(reader, "default") if default else anext(reader))


def _receive(stage: Stage, frames: list[dict[str, Any]], flips: Any, most: int) -> None:
    data = b""
    for fields in frames:
        fields = dict(fields)
        id, own = STREAMS[fields.pop("at")]
        data += PURE.encode_frame(fields.pop("kind"), id, reply=own, **fields)
    spoilt = bytearray(data)
    for at, byte in flips:
        spoilt[at % len(spoilt)] = byte
    stage.rig.receive(bytes(spoilt), most)


def _at_job(deed: Callable[[Job], Any]) -> Callable[[Stage, int], None]:
    def play(stage: Stage, at: int) -> None:
        if at < len(stage.jobs):
            deed(stage.jobs[at])

    return play


def _settle(stage: Stage, _: int) -> None:
    for _ in range(50):
        for job in stage.jobs:
            if job.can_go:
                job.step()


_PLAYS: dict[str, Any] = {
    "push": lambda s, at, body, cost, last: s.receivers[at].inlet.push(1, body, cost, last),
    "receive": _receive,
    "take": lambda s, at: s.receivers[at].inlet.take(),
    "wait": lambda s, at: s.receivers[at].inlet.wait().told[:],
    "read": lambda s, at, default: s.job(_next(s.receivers[at].reader(), default)),
    "end": lambda s, at, bad: s.receivers[at].inlet.end(CodecError("ended") if bad else None),
    "drop": lambda s, at: s.receivers[at].inlet.drop(),
    "add_sink": lambda s, at, other: s.rig.lane.add_sink(*STREAMS[at], s.receivers[other].inlet),
    "drop_sink": lambda s, at: s.rig.lane.drop_sink(*STREAMS[at]),
    "send": lambda s, at, value: s.job(s.senders[at].outlet.send(VALUES[value])),
    "put": lambda s, at, value: s.senders[at].outlet.put(VALUES[value]),
    "pump": lambda s, at, values, pauses: s.job(s.senders[at].outlet.pump(_items(values, pauses))),
    "grant": lambda s, at, credit: s.senders[at].outlet.grant(credit),
    "wake": lambda s, at: s.senders[at].outlet.wake(),
    "close": lambda s, at: s.senders[at].outlet.close(StreamEnded(f"closed {at}")),
    "step": _at_job(lambda job: job.step() if job.can_go else None),
    "settle": _settle,
    "cancel": _at_job(lambda job: job.cancel()),
    "leave": _at_job(lambda job: job.close()),
    "pause": lambda s, paused: setattr(s.rig.lane, "paused", paused),
    "raw": lambda s, raw: setattr(s.rig.lane, "raw", raw),
    "peer_body": lambda s, size: setattr(s.rig.lane, "peer_body", size),
    "turn": lambda s, _: s.rig.turn(),
    "detach": lambda s, _: [id for id, _ in s.rig.lane.detach()],
}
