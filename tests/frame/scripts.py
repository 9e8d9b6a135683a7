"""Stories that happen to a lane: what its callers, its peer, its owner and the clock do."""

from typing import Any

from hypothesis import strategies as st

from fastrpc import wire
from tests.frame.rig import METHODS, PURE, TYPED, Owner, Rig, pack

Event = tuple[Any, ...]

BIG = bytes(wire.BIG_BODY)

_NAMES = st.sampled_from(["echo", "later", "m", "nobody", "", "x" * 256])
#: Values and payloads by short names, so that a story can be read.
VALUES: dict[str, Any] = {
    "none": None, "one": 1, "text": "text", "bytes": b"bytes", "list": [1, [2]], "map": {"k": "v"},
    "long": "x" * 80, "deep": [[[[1]]]] * 20, "odd": object, "big": BIG, "numbered": {1: 2},
}  # fmt: skip
PAYLOADS: dict[str, bytes] = {
    "no arguments": pack([]), "one": pack([1]), "long": pack(["x" * 80]), "no list": pack(5),
    "map": pack({"a": 1}), "empty": b"", "bad": b"\xc1", "json": b"[1]", "text": b"nonsense",
    "deep": b"\x91" * 70 + b"\xc0", "keyed": b"\x81\x90" + bytes(80), "big": pack([BIG]), "raw": BIG,
    "size": pack([40_000]),
}  # fmt: skip
METADATA = {"none": b"", "some": b"md", "much": bytes(65_536)}

_VALUES = st.sampled_from(sorted(VALUES))
_ARGS = st.lists(_VALUES, max_size=2).map(tuple)
_KWARGS = st.one_of(st.none(), st.dictionaries(st.sampled_from("ab"), _VALUES, max_size=1))
_TIMEOUTS = st.sampled_from([0.0, 0.0, 0.5, 3.0, 1e12])
_METADATA = st.sampled_from(["none", "none", "some", "much"])
_PAYLOADS = st.sampled_from(sorted(PAYLOADS))

# What every frame of the peer's may have; ids are counted from where the lane stands.
_FRAME = st.fixed_dictionaries(
    {"payload": _PAYLOADS},
    optional={
        "serializer": st.sampled_from([0, 1, 1, 1, 2, 3, 17]),
        "oneway": st.booleans(),
        "status": st.sampled_from([0, 44, 60]),
        "bits": st.sampled_from([0, 0, 0x10, 0x20, 0x80]),
        "arg": st.sampled_from([0, 1, 2, 4096, 5000, 2**32 - 1]),
        "time": st.sampled_from([0, 1, 500, 2000]),
        "name": st.sampled_from([b"", *(name.encode() for name in METHODS), b"nobody"]),
        "metadata": st.sampled_from([b"", b"md", b"\x01k\x00\x01v"]),
        "heartbeat": st.sampled_from([False, False, True]),
        "buffers": st.lists(st.just(b"b"), max_size=1),
        "header_size": st.sampled_from([0, 48]),
    },
)
_PLAIN_CALL = st.fixed_dictionaries(
    {
        "payload": st.sampled_from(["no arguments", "one", "long", "size"]),
        "serializer": st.just(1),
        "name": st.sampled_from([name.encode() for name in METHODS]),
        "time": st.sampled_from([0, 0, 0, 1, 500, 2000]),
    },
    optional={"arg": st.sampled_from(["own"] * 9 + [1])},
)
_NUMBERED_CALL = st.fixed_dictionaries(
    {"payload": _PAYLOADS, "serializer": st.just(1), "arg": st.sampled_from([1, 2, 6])}
)
_PLAIN_REPLY = st.fixed_dictionaries(
    {"payload": _PAYLOADS, "serializer": st.sampled_from([0, 1, 1, 2])}
)
_KINDS = st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 6, 7, 8, 15])


def _weighted(**parts: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Choose among *parts* by weight; `one_of` takes each only once."""
    names = [name for name, (weight, _) in parts.items() for _ in range(weight)]
    return st.sampled_from(names).flatmap(lambda name: parts[name][1])


# (what, kind, how far from the last id, fields)
_FRAMES = _weighted(
    plain_call=(12, st.tuples(st.just("ask"), st.just(0), st.just(1), _PLAIN_CALL)),
    numbered_call=(5, st.tuples(st.just("ask"), st.just(0), st.just(1), _NUMBERED_CALL)),
    any_call=(5, st.tuples(st.just("ask"), st.just(0), st.sampled_from([1, 1, 1, 2]), _FRAME)),
    bad_call=(1, st.tuples(st.just("ask"), st.just(0), st.sampled_from([0, -1, 2**63]), _FRAME)),
    plain_reply=(8, st.tuples(st.just("answer"), st.just(0), st.sampled_from([0, 1, 1, 2, 3]), _PLAIN_REPLY)),
    any_reply=(4, st.tuples(st.just("answer"), st.just(0), st.sampled_from([0, 1, 1, 50]), _FRAME)),
    other=(3, st.tuples(st.just("ask"), _KINDS, st.integers(0, 2), _FRAME)),
)  # fmt: skip

# Frames, how they are hurt, held back to the next time and cut up, and whether they come in through the lane's memory.
_RECEIVED = st.tuples(
    st.just("receive"),
    st.lists(_FRAMES, min_size=1, max_size=5),
    _weighted(
        whole=(9, st.just([])),
        hurt=(1, st.lists(st.tuples(st.integers(0, 2**16), st.sampled_from([0, 1, 20, 128, 255])), max_size=2)),
    ),
    st.sampled_from([0, 0, 0, 0, 0, 1, 5, 30]),
    st.sampled_from([2**30, 2**30, 2**30, 25, 9000]),
    st.booleans(),
)  # fmt: skip

_CALL = st.tuples(
    st.just("call"), _NAMES, _ARGS, _KWARGS, _TIMEOUTS, _METADATA, st.sampled_from(sorted(TYPED))
)
_SIMPLE_CALL = st.tuples(
    st.just("call"), st.sampled_from(["echo", "m"]), st.just(("one",)), st.none(), _TIMEOUTS,
    st.just("none"), st.sampled_from(sorted(TYPED)),
)  # fmt: skip
_SETTINGS = st.sampled_from([
    ("paused", True), ("paused", False), ("crowded", True), ("crowded", False),
    ("draining", True), ("refusals", (b"a", b"bc")), ("opened", False), ("opened", True), ("raw", True), ("raw", False),
    ("serializer", 0), ("serializer", 1), ("serializer", 2), ("serializer", 3),
    ("serializer", 17), ("peer_body", 60), ("peer_body", 2**20), ("peer_methods", 1),
    ("peer_methods", 100), ("max_depth", 2), ("max_items", 3), ("max_body", 100),
    ("max_body", 2**20), ("max_methods", 1), ("router", None),
])  # fmt: skip
_OWNERS = st.sampled_from([
    "frames", "start", "bind", "raised", "unsendable", "answered", "undecodable", "expired", "room",
    "tick",
])  # fmt: skip

EVENTS = _weighted(
    received=(12, _RECEIVED),
    call=(3, _CALL),
    simple_call=(4, _SIMPLE_CALL),
    notify=(1, st.tuples(st.just("notify"), _NAMES, _ARGS, _KWARGS, _METADATA)),
    cancel=(1, st.tuples(st.just("cancel"), st.integers(0, 5))),
    sweep=(1, st.tuples(st.just("sweep"), st.sampled_from([0.0, 0.6, 5.0]))),
    later=(1, st.tuples(st.just("later"), st.sampled_from([0.002, 1.0, 3.0]))),
    turn=(2, st.just(("turn",))),
    flush=(1, st.just(("flush",))),
    pause=(1, st.just(("set", ("paused", True)))),
    resume=(2, st.sampled_from([("resume", True), ("resume", False)])),
    forget=(1, st.tuples(st.just("forget"), _NAMES)),
    send=(1, st.tuples(st.just("send"), st.sampled_from(["no arguments", "empty", "raw"]))),
    reply=(1, st.tuples(
        st.just("reply"), st.integers(0, 3), st.sampled_from(["one", "empty", "raw"]),
        st.sampled_from([0, 60]), st.sampled_from([0, 7]), st.sampled_from([0, 137, 2**40]),
    )),
    set=(3, st.tuples(st.just("set"), _SETTINGS)),
    owner=(2, st.tuples(
        st.just("owner"), _OWNERS,
        st.sampled_from(["", "fail", "leave", "reply", "reply", "call", "feed", "open", "exit"]),
    )),
    running=(1, st.tuples(st.just("running"), st.booleans())),
    detach=(1, st.just(("detach",))),
)  # fmt: skip

#: What the lane is told before a story begins.
BEGINNINGS = st.fixed_dictionaries(
    {"opened": st.sampled_from([True] * 7 + [False])},
    optional={
        "calls": st.integers(1, 5),
        "tick": st.sampled_from([0.25, 0.5]),
        "draining": st.sampled_from([False] * 5 + [True]),
        "refusals": st.sampled_from([None, None, (b"", b"\xa1x", bytes(40_000))]),
        "raw": st.just(True),
        "crowded": st.booleans(),
        "max_body": st.sampled_from([60, 100, 2**20, 2**20]),
        "peer_body": st.sampled_from([1, 2, 60, 40_000, 2**20]),
        "max_methods": st.sampled_from([1, 2]),
        "peer_methods": st.sampled_from([1, 2]),
        "max_depth": st.sampled_from([1, 2, 70]),
        "max_items": st.sampled_from([1, 2, 20]),
    },
)

STORIES = st.lists(EVENTS, min_size=1, max_size=16)


def begin(rig: Rig, told: dict[str, Any]) -> None:
    """Bring the lane to where a story begins."""
    rig.methods["echo"].is_sheddable = True
    for name, value in told.items():
        if name != "calls":
            setattr(rig if name == "tick" else rig.lane, name, value)
    for n in range(told.get("calls", 0)):
        play(rig, ("call", "m", ("one",), None, n % 2 * 3.0, "none", sorted(TYPED)[n % len(TYPED)]))


def _frame(rig: Rig, event: Event, asked: int) -> tuple[bytes, int]:
    what, kind, step, fields = event
    fields = fields | {"payload": PAYLOADS[fields["payload"]]}
    if fields.get("arg") == "own":  # a number that no other method has
        fields["arg"] = METHODS.index(fields["name"].decode()) + 1
    if what == "ask":
        asked += step
        return PURE.encode_frame(kind, max(asked, 0), **fields), asked
    id = max(rig.lane.table.next_id - step, 0) if step < 50 else 2**64 - 1
    return PURE.encode_frame(kind, id, reply=True, **fields), asked


def _receive(rig: Rig, event: Event) -> None:
    _, frames, hurt, cut, most, straight = event
    data = b""
    asked = rig.lane.last_id
    for one in frames:
        frame, asked = _frame(rig, one, asked)
        data += frame
    spoilt = bytearray(data)
    for at, byte in hurt:
        spoilt[at % len(spoilt)] = byte
    data = rig.held + bytes(spoilt)
    whole = max(len(data) - cut, 0)
    data, rig.held = data[:whole], b"" if hurt else data[whole:]
    most = max(most, len(data) // 50)
    if straight:
        rig.receive(data, most)
        return
    for at in range(0, len(data), most):
        rig.lane.feed(data[at : at + most])


def _react(rig: Rig, deed: str) -> Any:
    if not deed:
        return None

    def react(owner: Owner, thing: Any) -> None:
        if deed == "fail":
            raise OSError("the owner fails")
        if deed == "exit":
            raise SystemExit("the owner leaves")
        if deed == "leave":
            owner.log.append(("left", [(id, slot[2]) for id, slot in owner.lane.detach()]))
        elif deed == "reply" and hasattr(thing, "id"):
            owner.lane.reply(thing.id, 1, b"\x05")
        elif deed == "call" and len(owner.log) < 40:
            rig.call("echo", 1)
        elif deed == "feed" and len(owner.log) < 40:
            rig.lane.feed(rig.asked("echo", 1, id=rig.lane.last_id + 1))
        elif deed == "open":
            owner.lane.opened = True

    return react


def play(rig: Rig, event: Event) -> Any:
    """Let *event* happen and return what came of it, in a form that can be compared."""
    try:
        return _PLAYS[event[0]](rig, event)
    except (Exception, SystemExit) as exc:
        # Words of Python's own about arguments it was given are not the twins'.
        return type(exc).__name__, str(exc) if not isinstance(exc, TypeError) else ""


def _call(rig: Rig, event: Event) -> None:
    _, name, args, kwargs, timeout, metadata, decode = event
    args, kwargs = _values(args, kwargs)
    rig.lane.call(name, args, kwargs, timeout, METADATA[metadata], TYPED[decode])


def _notify(rig: Rig, event: Event) -> Any:
    _, name, args, kwargs, metadata = event
    return rig.lane.notify(name, *_values(args, kwargs), METADATA[metadata])


def _values(args: Any, kwargs: Any) -> tuple[Any, Any]:
    named = {name: VALUES[value] for name, value in kwargs.items()} if kwargs is not None else None
    return tuple(VALUES[value] for value in args), named


def _later(rig: Rig, event: Event) -> None:
    rig.now += event[1]


def _running(rig: Rig, event: Event) -> None:
    rig.running = event[1]


def _owner(rig: Rig, event: Event) -> None:
    rig.owner.does[event[1]] = _react(rig, event[2])


def _resume(rig: Rig, event: Event) -> None:
    rig.lane.paused = rig.lane.paused and not event[1]
    rig.lane.resume()


def _cancel(rig: Rig, event: Event) -> None:
    if event[1] < len(rig.waiters):
        rig.waiters[event[1]].cancel()


def _sweep(rig: Rig, event: Event) -> Any:
    rig.now += event[1]
    return [slot[1:] for slot in rig.lane.sweep(rig.now)]


_PLAYS: dict[str, Any] = {
    "receive": _receive,
    "call": _call,
    "notify": _notify,
    "cancel": _cancel,
    "sweep": _sweep,
    "later": _later,
    "turn": lambda rig, event: rig.turn(),
    "flush": lambda rig, event: rig.lane.flush(),
    "resume": _resume,
    "forget": lambda rig, event: rig.lane.forget(event[1]),
    "send": lambda rig, event: rig.lane.send(PAYLOADS[event[1]]),
    "reply": lambda rig, event: rig.lane.reply(event[1], 1, PAYLOADS[event[2]], *event[3:]),
    "set": lambda rig, event: setattr(rig.lane, *event[1]),
    "owner": _owner,
    "running": _running,
    "detach": lambda rig, event: [(id, slot[1:]) for id, slot in rig.lane.detach()],
}
