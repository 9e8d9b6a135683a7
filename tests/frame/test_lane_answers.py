"""Lane, server side: which calls it answers itself, and what it hands up of the others."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from fastrpc import wire
from fastrpc.errors import ConfigError
from tests.frame.rig import PURE, Rig, arguments, pack


@pytest.fixture
def rig(twin: SimpleNamespace) -> Rig:
    return Rig(twin)


def last(rig: Rig) -> dict[str, Any]:
    """Return the frame that was handed up last."""
    frame: dict[str, Any] = rig.owner.log[-1][2]
    return frame


@pytest.mark.parametrize("name", ["echo", "later"])
def test_a_plain_call_is_answered_at_once(rig: Rig, name: str) -> None:
    rig.ask(name, {"x": 1})
    (frame,) = rig.sent()
    assert (frame.id, frame.reply, frame.serializer, frame.status) == (1, True, 1, 0)
    assert msgspec.msgpack.decode(frame.payload) == {"x": 1}
    assert (rig.owner.log, rig.lane.calls_in, rig.lane.last_id) == ([], 1, 1)
    assert (rig.methods[name].calls, rig.methods[name].errors) == (1, 0)


def test_replies_of_one_read_leave_together(rig: Rig) -> None:
    data = b"".join(rig.asked("echo", n, id=n) for n in range(1, 6))
    rig.lane.feed(data)
    assert rig.writes == 1
    assert [msgspec.msgpack.decode(frame.payload) for frame in rig.sent()] == [1, 2, 3, 4, 5]
    assert rig.lane.bytes_in == len(data)


def test_large_answers_do_not_wait_for_the_end_of_the_read(rig: Rig) -> None:
    rig.lane.feed(b"".join(rig.asked("big", 30_000, id=n) for n in range(1, 6)))
    assert rig.writes == 2  # three of them are over 64 KiB, then the rest
    assert len(rig.sent()) == 5


def test_every_serializer_is_answered_in_kind(rig: Rig) -> None:
    rig.ask("echo", serializer=0, payload=b"raw")
    rig.ask("echo", serializer=1, payload=pack(["m"]))
    rig.ask("echo", serializer=2, payload=b'["j"]')
    told = [(frame.serializer, frame.payload) for frame in rig.sent()]
    assert told == [(0, b"raw"), (1, pack("m")), (2, b'"j"')]


def test_a_method_can_be_called_by_number_once_bound(rig: Rig) -> None:
    rig.ask("echo", 1, arg=3)
    assert rig.lane.bound_method(3) is rig.methods["echo"]
    rig.ask("", 2, arg=3)
    assert [msgspec.msgpack.decode(frame.payload) for frame in rig.sent()] == [1, 2]
    assert [rig.lane.bound_method(n) for n in (-1, 0, 1, 4, 10**6)] == [None] * 5


def test_the_same_number_may_be_bound_again_to_the_same_method_only(rig: Rig) -> None:
    for _ in range(2):
        rig.ask("echo", arg=1)
    assert len(rig.sent()) == 2
    rig.ask("fail", arg=1)
    assert rig.owner.log == [
        ("broken", ("ProtocolError", "method number 1 is bound to b'echo' already"))
    ]


@pytest.mark.parametrize(
    ("number", "bound"), [(0, False), (4096, True), (4097, False), (2**32 - 1, False)]
)
def test_numbers_are_bound_up_to_the_limit(rig: Rig, number: int, bound: bool) -> None:
    rig.ask("echo", 5, arg=number)
    assert len(rig.sent()) == 1
    assert (rig.lane.bound_method(number) is not None) == bound
    rig.ask("", 6, arg=number)
    assert len(rig.sent()) == bound
    assert len(rig.owner.log) == (not bound)


@pytest.mark.parametrize("fields", [{"name": b"nobody"}, {"name": b"", "arg": 9}, {"name": b""}])
def test_calls_of_methods_unknown_are_handed_up(rig: Rig, fields: dict[str, Any]) -> None:
    rig.ask("", 1, 2, **fields)
    ((what, (frame,)),) = rig.owner.log
    assert what == "frames"
    assert (frame["id"], frame["payload"], frame["name"]) == (1, pack((1, 2)), fields["name"])
    assert rig.lane.last_id == 1


def test_without_a_router_all_are_unknown(rig: Rig) -> None:
    rig.lane.router = None
    rig.ask("echo", arg=1)
    assert [what for what, *_ in rig.owner.log] == ["frames"]


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": b"md"},
        {"bits": wire.BIT_ZIP},
        {"bits": wire.BIT_END},
        {"bits": wire.BIT_MORE},
        {"buffers": [b"b"]},
        {"kind": 2},
        {"kind": 3, "bits": wire.BIT_MORE},
        {"kind": 12},
        {"heartbeat": True},
        {"reply": True, "heartbeat": True},
        {"reply": True, "bits": wire.BIT_ZIP},
    ],
)
def test_what_is_not_plain_is_handed_up(rig: Rig, fields: dict[str, Any]) -> None:
    given = {"serializer": 1, "payload": pack([5]), "name": b"echo", "arg": 1} | fields
    rig.lane.feed(PURE.encode_frame(given.pop("kind", 0), 1, **given))
    ((what, (frame,)),) = rig.owner.log
    given["bits"] = given.get("bits", 0) | (wire.BIT_SEG if "buffers" in given else 0)
    assert what == "frames"
    assert {field: frame[field] for field in given} == given
    asked = frame["kind"] in (0, 2) and not frame["reply"] and not frame["heartbeat"]
    assert rig.lane.last_id == (1 if asked else 0)
    bound = rig.lane.bound_method(1) is not None
    assert bound == asked


def test_calls_in_their_order_plain_or_not(rig: Rig) -> None:
    rig.methods["echo"].decoders[1] = lambda payload: rig.owner.log.append("echo") or []
    rig.lane.feed(
        b"".join(
            rig.asked("echo", id=n, metadata=metadata)
            for n, metadata in enumerate([b"", b"m", b"m", b"", b"m"], 1)
        )
    )
    told = [
        one if isinstance(one, str) else [frame["id"] for frame in one[1]] for one in rig.owner.log
    ]
    assert told == ["echo", [2], [3], "echo", [5]]


@pytest.mark.parametrize("id", [0, 5, 4])
def test_numbers_of_calls_must_rise(rig: Rig, id: int) -> None:
    rig.ask("echo", id=5)
    rig.ask("echo", id=id)
    text = f"call id {id} came after 5: ids must rise"
    assert rig.owner.log == [("broken", ("ProtocolError", text))]
    assert rig.lane.calls_in == 1


@pytest.mark.parametrize("fields", [{}, {"bits": wire.BIT_ZIP}])
def test_numbers_of_calls_have_an_end(rig: Rig, fields: dict[str, Any]) -> None:
    rig.ask("echo", id=wire.ID_MAX, **fields)
    rig.ask("echo", id=wire.ID_MAX + 1, **fields)
    text = f"call id {wire.ID_MAX + 1} is over {wire.ID_MAX}"
    assert rig.owner.log[-1] == ("broken", ("ProtocolError", text))


def test_a_draining_lane_hands_calls_up(rig: Rig) -> None:
    rig.lane.draining = True
    rig.ask("echo", arg=1)
    assert [what for what, *_ in rig.owner.log] == ["frames"]
    assert rig.lane.last_id == 1


@pytest.mark.parametrize("draining", [False, True])
def test_calls_that_may_be_shed_are_refused_while_there_are_refusals(
    rig: Rig, draining: bool
) -> None:
    for name in ("echo", "number"):
        rig.methods[name].is_sheddable = True
    rig.ask("number", arg=1)
    rig.lane.refusals, rig.lane.draining = (pack("one"), pack("two")), draining
    broken = rig.asked("echo", id=2, arg=2, payload=b"\xc1")  # nobody looks at it
    rig.lane.feed(broken + rig.asked("", id=3, arg=1) + rig.asked("later", 7, id=4, arg=3))
    ran, *refused = rig.sent()
    assert (ran.id, ran.status) == (1, 0)
    told = [(frame.id, frame.status, frame.serializer, frame.payload) for frame in refused]
    shed = [(2, 52, 1, pack("two")), (3, 52, 1, pack("one"))]
    assert told == (shed if draining else [*shed, (4, 0, 1, pack(7))])
    handed_up = [frames[0]["id"] for what, frames in rig.owner.log if what == "frames"]
    assert handed_up == ([4] if draining else [])
    assert (rig.lane.shed, rig.lane.calls_in, rig.lane.last_id) == (2, 4, 4)
    assert [(m.calls, m.shed) for m in map(rig.methods.get, ("echo", "number"))] == [(0, 1), (1, 1)]
    rig.lane.refusals, rig.lane.draining = None, False
    rig.ask("echo", 1, id=5)
    assert rig.sent()[-1].status == 0


def test_oneway_calls_are_shed_in_silence(rig: Rig) -> None:
    rig.lane.refusals = (b"",)
    rig.methods["echo"].is_sheddable = True
    rig.ask("echo", 1, oneway=True)
    rig.lane.shed_call(2, True, rig.methods["echo"])
    assert (rig.taken(), rig.lane.shed, rig.owner.log) == (b"", 2, [])


def test_the_owner_sheds_calls_by_the_lane(rig: Rig) -> None:
    rig.lane.refusals = (pack("no"), pack("never"))
    rig.lane.shed_call(5, False, rig.methods["task"])
    rig.turn()
    (frame,) = rig.sent()
    assert (frame.id, frame.status, frame.payload) == (5, 52, pack("never"))
    assert (rig.lane.shed, rig.methods["task"].shed) == (1, 1)


def test_a_refusal_that_the_peer_does_not_take_goes_without_words(rig: Rig) -> None:
    rig.lane.refusals, rig.lane.peer_body = (pack("no"),), 2
    rig.lane.shed_call(1, False, rig.methods["echo"])
    rig.turn()
    (frame,) = rig.sent()
    assert (frame.status, frame.payload) == (52, b"")


def test_calls_too_large_are_handed_up_without_their_body(twin: SimpleNamespace) -> None:
    rig = Rig(twin, max_body=100)
    rig.ask("echo", bytes(200), arg=1)
    ((_, (frame,)),) = rig.owner.log
    assert frame["oversize"] == len(pack((bytes(200),))) + 4
    assert (frame["name"], rig.lane.bound_method(1)) == (b"", None)
    rig.ask("echo", 1, arg=1)
    rig.ask("fail", bytes(200), arg=1)  # whatever its name is, nobody has it
    rig.ask("echo", 1, arg=1)
    assert [frame.id for frame in rig.sent()] == [2, 4]


def test_handlers_of_other_modes_are_started_by_the_owner(rig: Rig) -> None:
    for name in ("task", "thread"):
        rig.ask(name, 1, 2)
        what, method, frame, args = rig.owner.log[-1]
        assert (what, method, args) == ("start", name.encode(), "[1, 2]")
        assert frame["payload"] == pack((1, 2))
        assert rig.methods[name].calls == 0
    assert rig.taken() == b""


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"payload": b"\xc1"}, "DecodeError"),
        ({"payload": pack({"a": 1})}, "ValidationError"),
        ({"payload": pack(5)}, "ValidationError"),
        ({"payload": b"\x91" * 65 + b"\xc0"}, "TooLarge"),
        ({"payload": b"\x91\x81\x90" + bytes(70)}, "TooLarge"),
        ({"payload": b"x", "serializer": 2}, "DecodeError"),
        ({"serializer": 3}, None),
        ({"serializer": 31}, None),
    ],
)
def test_arguments_that_do_not_fit_are_handed_up(
    rig: Rig, fields: dict[str, Any], error: str | None
) -> None:
    rig.ask("echo", arg=1, **fields)
    what, method, frame, exc = rig.owner.log[-1]
    assert (what, method, exc and exc[0]) == ("bind", b"echo", error)
    assert (frame["name"], frame["arg"]) == (b"echo", 1)
    assert {field: frame[field] for field in fields} == fields


@pytest.mark.parametrize(
    ("limits", "fits", "text"),
    [
        ({"max_depth": 2}, [[1]], "is nested deeper than 2 (max_depth)"),
        ({"max_items": 3}, [1], "has more than 3 items (max_items)"),
        ({"max_depth": 64}, [["x" * 65]], "is nested deeper than 64 (max_depth)"),
    ],
)
def test_limits_hold_for_short_payloads_too(
    rig: Rig, limits: dict[str, int], fits: Any, text: str
) -> None:
    for name, limit in limits.items():
        setattr(rig.lane, name, limit)
    rig.ask("echo", *fits)
    assert rig.owner.log == []
    deep: Any = 1
    for _ in range(70 if limits == {"max_depth": 64} else 2):
        deep = [deep]
    rig.ask("echo", deep, 2)
    assert rig.owner.log[-1][3] == ("TooLarge", text)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("fail", ("ValueError", "failed with (1,)")),
        ("exit", ("SystemExit", "1")),
        ("waits", ("RuntimeError", "the handler waits although its code has no await")),
        ("stuck", ("RuntimeError", "coroutine ignored GeneratorExit")),
        ("one", ("AttributeError", "'int' object has no attribute 'send'")),
    ],
)
def test_what_a_handler_raises_is_handed_up(rig: Rig, name: str, error: tuple[str, str]) -> None:
    rig.ask(name, 1, arg=1)
    rig.ask("", 1, arg=1)
    (first, second) = rig.owner.log
    assert first[:2] == second[:2] == ("raised", name.encode())
    assert first[3] == second[3] == error
    assert (first[2]["name"], second[2]["name"]) == (name.encode(), b"")
    assert (first[2]["id"], first[2]["payload"], second[2]["id"]) == (1, pack((1,)), 2)
    assert (rig.methods[name].calls, rig.methods[name].errors) == (2, 2)
    rig.ask("echo", 1)
    assert len(rig.sent()) == 1


def test_arguments_a_handler_does_not_take_are_its_own_error(rig: Rig) -> None:
    rig.ask("big", 1, 2, 3)
    assert rig.owner.log[-1][3][0] == "TypeError"


@pytest.mark.parametrize("serializer", [1, 17])
def test_results_that_can_not_be_encoded_are_handed_up(rig: Rig, serializer: int) -> None:
    name = "odd" if serializer == 1 else "echo"
    rig.ask(name, serializer=serializer)
    what, method, frame, exc = rig.owner.log[-1]
    assert (what, method) == ("unsendable", name.encode())
    assert exc[0] == ("TypeError" if serializer == 1 else "CodecError")
    assert frame["serializer"] == serializer
    assert (rig.methods[name].calls, rig.methods[name].errors) == (1, 1)


def test_results_over_the_peers_limit_are_handed_up(rig: Rig) -> None:
    rig.lane.peer_body = 102
    rig.ask("big", 100)
    rig.ask("big", 101)
    assert len(rig.sent()) == 1
    what, method, frame, exc = rig.owner.log[-1]
    assert (what, method, frame["id"], exc) == ("unsendable", b"big", 2, None)


@pytest.mark.parametrize("raw", [False, True])
def test_large_plain_results_go_raw_if_the_peer_takes_that(rig: Rig, raw: bool) -> None:
    rig.lane.raw = raw
    rig.ask("big", wire.BIG_BODY)
    rig.ask("big", wire.BIG_BODY - 1)
    assert [frame.serializer for frame in rig.sent()] == [0 if raw else 1, 1]


def test_a_raw_call_may_have_a_result_that_is_no_bytes(rig: Rig) -> None:
    rig.ask("number", serializer=0, payload=b"raw")
    rig.ask("echo", serializer=0, payload=b"raw")
    told = [(frame.serializer, frame.payload) for frame in rig.sent()]
    assert told == [(1, b"\x01"), (0, b"raw")]
    assert rig.lane.encode_result(0, 5) == (1, b"\x05")
    for value in (b"x", bytearray(b"x"), memoryview(b"x")):
        assert rig.lane.encode_result(0, value) == (0, b"x")


@pytest.mark.parametrize("name", ["echo", "odd", "later"])
def test_oneway_calls_get_no_answer(rig: Rig, name: str) -> None:
    rig.ask(name, 1, oneway=True)
    assert rig.taken() == b""
    assert rig.owner.log == []
    assert rig.methods[name].calls == 1


def test_a_oneway_call_that_fails_is_handed_up(rig: Rig) -> None:
    rig.ask("fail", 1, oneway=True)
    what, _, frame, _ = rig.owner.log[-1]
    assert (what, frame["oneway"]) == ("raised", True)


def test_a_deadline_counts_from_the_first_call_of_the_read(rig: Rig) -> None:
    class Clock:
        # The first call is timed besides: two looks of its own.
        ticks = iter([10.0, 10.1, 10.2, 10.5, 10.51])

        def __call__(self) -> float:
            return next(self.ticks)

    share = rig.twin.LoopShare(None, rig.soon.append, Clock(), None, 0, None)
    lane = rig.twin.Lane(rig.owner, share, 1000)
    lane.router, lane.opened = rig.lane.router, True
    lane.encoders = rig.lane.encoders
    lane.attach(rig._write, rig._writelines)
    lane.feed(b"".join(rig.asked("echo", 7, id=n, time=500) for n in (1, 2, 3)))
    assert [frame.id for frame in rig.sent()] == [1, 2]
    what, method, frame = rig.owner.log[-1]
    assert (what, method, frame["id"], frame["time"], frame["name"]) == (
        "expired", b"echo", 3, 500, b"echo",
    )  # fmt: skip
    assert rig.methods["echo"].calls == 2


def test_a_large_call_comes_straight_into_place(rig: Rig) -> None:
    value = bytes(range(256)) * 1000
    rig.receive(rig.asked("echo", value) + rig.asked("echo", 1, id=2), most=40_000)
    one, two = rig.sent()
    assert msgspec.msgpack.decode(one.payload) == value
    assert msgspec.msgpack.decode(two.payload) == 1


def test_a_method_counts_and_says_what_it_is(twin: SimpleNamespace) -> None:
    decoders = arguments()
    method = twin.Method(b"m", 1, print, decoders, info="about")
    assert (method.name, method.mode, method.handler, method.info) == (b"m", 1, print, "about")
    assert (method.calls, method.errors) == (0, 0)
    decoders[0] = None
    assert method.decoders[0] is not None  # a list of its own
    method.calls, method.errors = 3, 2
    assert (method.calls, method.errors) == (3, 2)
    assert twin.Method(b"m", 0, print, decoders).info is None


@pytest.mark.parametrize("count", [0, 31, 33])
def test_a_method_has_a_place_for_each_serializer(twin: SimpleNamespace, count: int) -> None:
    with pytest.raises(ConfigError, match=f"^decoders must have 32 places, got {count}$"):
        twin.Method(b"m", 0, print, [None] * count)


def test_drive_runs_a_coroutine_that_never_waits(twin: SimpleNamespace) -> None:
    async def plain(value: int) -> int:
        return value

    async def raising() -> None:
        raise KeyError("k")

    assert twin.drive(plain(5)) == 5
    with pytest.raises(KeyError):
        twin.drive(raising())


def times(rig: Rig, name: str) -> tuple[int, float]:
    """Return how many calls of a method were timed, and their sum."""
    found = rig.methods[name].times
    return (0, 0.0) if found is None else (found.count, found.total)


@pytest.mark.parametrize("name", ["echo", "later"])
def test_one_call_in_sixteen_is_timed_the_first_among_them(rig: Rig, name: str) -> None:
    rig.tick = 0.25  # each look at the clock is that much later
    assert rig.methods[name].times is None
    rig.lane.feed(b"".join(rig.asked(name, n, id=n) for n in range(1, 17)))
    assert times(rig, name) == (1, 0.25)
    rig.ask(name, 17, id=17)
    assert times(rig, name) == (2, 0.5)
    assert rig.methods[name].calls == 17


def test_a_call_that_fails_is_timed_as_well(rig: Rig) -> None:
    rig.tick = 0.25
    rig.ask("fail", 1)
    assert rig.owner.log[-1][0] == "raised"
    assert times(rig, "fail") == (1, 0.25)


def test_a_oneway_call_is_timed(rig: Rig) -> None:
    rig.tick = 0.25
    rig.ask("echo", 1, oneway=True)
    assert times(rig, "echo") == (1, 0.25)


def test_what_is_refused_or_handed_up_is_not_timed_here(rig: Rig) -> None:
    rig.tick = 0.25
    rig.ask("task", 1, id=1)
    rig.ask("echo", id=2, payload=b"\xc1")
    assert [entry[0] for entry in rig.owner.log] == ["start", "bind"]
    assert times(rig, "task") == times(rig, "echo") == (0, 0.0)
