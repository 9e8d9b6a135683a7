"""Lane, client side: what goes out for a call, and what a reply does."""

import math
import threading
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from fastrpc import wire
from fastrpc.errors import CodecError, ConfigError, MethodNotFound, ProtocolError, TooLarge
from tests.frame.rig import BadCodec, Rig, pack
from tests.frame.twins import shown


@pytest.fixture
def rig(twin: SimpleNamespace) -> Rig:
    return Rig(twin)


def test_the_first_call_names_its_method_later_ones_number_it(rig: Rig) -> None:
    for _ in range(2):
        rig.call("Arith.add", 2, 3)
        rig.turn()
    rig.call("Arith.sub", 5)
    rig.turn()
    first, second, third = rig.sent()
    assert (first.kind, first.id, first.arg, first.name) == (0, 1, 1, b"Arith.add")
    assert (second.id, second.arg, second.name) == (2, 1, b"")
    assert (third.id, third.arg, third.name) == (3, 2, b"Arith.sub")
    assert {frame.payload for frame in (first, second)} == {pack((2, 3))}
    assert {frame.serializer for frame in (first, second, third)} == {wire.Serializer.MSGPACK}
    assert rig.lane.calls_out == 3


def test_headers_are_the_shortest(rig: Rig) -> None:
    sizes = []
    for fields in ({}, {}, {"timeout": 1.0}, {"metadata": b"m"}):
        rig.call("m", **fields)
        rig.turn()
        sizes.append(int.from_bytes(rig.taken()[2:4], "big"))
    assert sizes == [32, 24, 28, 32]


@pytest.mark.parametrize(
    ("args", "kwargs", "payload"),
    [
        ((), None, []),
        ((1, "a"), None, [1, "a"]),
        ((), {"b": 2}, {"b": 2}),
        ((1,), {"b": 2}, {"b": 2, "*": [1]}),
        (({"b": 2},), None, [{"b": 2}]),
        ((), {}, []),
    ],
)
def test_arguments_are_a_list_or_a_map(rig: Rig, args: Any, kwargs: Any, payload: Any) -> None:
    rig.lane.call("m", args, kwargs, 0.0, b"", None)
    (frame,) = rig.sent()
    assert msgspec.msgpack.decode(frame.payload) == payload


def test_metadata_goes_along(rig: Rig) -> None:
    for _ in range(2):
        rig.call("m", metadata=b"\x01k\x00\x01v")
        rig.turn()
    first, second = rig.sent()
    assert first.metadata == second.metadata == b"\x01k\x00\x01v"
    assert (first.name, first.arg, second.name, second.arg) == (b"m", 1, b"", 1)


def test_a_call_alone_leaves_at_once_others_with_the_turn(rig: Rig) -> None:
    rig.call("m")
    assert (rig.writes, rig.lane.unsent) == (1, 0)
    for _ in range(3):
        rig.call("m")
    assert rig.writes == 1
    assert rig.lane.unsent > 0
    rig.turn()
    assert (rig.writes, rig.lane.unsent) == (2, 0)
    assert len(rig.sent()) == 4
    assert rig.lane.bytes_out == 34 + 3 * 25


def test_calls_before_the_lane_is_attached_wait(twin: SimpleNamespace) -> None:
    rig = Rig(twin)
    rig.lane.attach(None, None)
    rig.call("m")
    rig.turn()
    assert rig.lane.unsent == 33 + 1
    rig.lane.attach(rig._write, rig._writelines)
    rig.lane.flush()
    assert len(rig.sent()) == 1
    rig.lane.flush()
    assert rig.writes == 1


def test_a_reply_ends_its_call(rig: Rig) -> None:
    one, two = rig.call("m"), rig.call("m")
    rig.answer(2, {"b": 2})
    rig.answer(1, [1])
    assert (one.result(), two.result()) == ([1], {"b": 2})
    assert (rig.lane.replies_in, len(rig.lane.table)) == (2, 0)
    assert rig.owner.log == [("tick",)]


def test_the_callers_decoder_is_used_for_the_lanes_serializer_only(rig: Rig) -> None:
    typed = msgspec.msgpack.Decoder(tuple[int, int]).decode
    one, two = rig.call("m", decode=typed), rig.call("m", decode=typed)
    rig.answer(1, [1, 2])
    rig.answer(2, serializer=2, payload=b"[1,2]")
    assert one.result() == (1, 2)
    assert two.result() == [1, 2]


def test_a_large_reply_comes_straight_into_place(rig: Rig) -> None:
    waiter = rig.call("m")
    value = bytes(range(256)) * 4096
    data = rig.twin.encode_frame(0, 1, reply=True, serializer=0, payload=value)
    rig.receive(data, most=50_000)
    assert waiter.result() == value
    assert rig.lane.bytes_in == len(data)


@pytest.mark.parametrize("fields", [{"status": 44}, {"metadata": b"trail"}, {"serializer": 9}])
def test_a_reply_that_is_no_plain_value_is_handed_up(rig: Rig, fields: dict[str, Any]) -> None:
    waiter = rig.call("m", timeout=2.0)
    rig.answer(1, 5, **fields)
    (_, (what, slot, frame)) = rig.owner.log
    assert (what, slot) == ("answered", (None, "m", 100.0, 102.0))
    assert frame["payload"] == pack(5)
    assert {field: frame[field] for field in fields} == fields
    assert not waiter.done()
    assert len(rig.lane.table) == 0


def test_a_reply_that_can_not_be_read_is_handed_up(rig: Rig) -> None:
    rig.call("m")
    rig.answer(1, payload=b"\xc1")
    what, slot, frame, exc = rig.owner.log[-1]
    assert (what, slot, exc[0]) == ("undecodable", (None, "m", 0.0, 0.0), "DecodeError")
    assert frame["payload"] == b"\xc1"


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"\x91" * 65 + b"\xc0", "is nested deeper than 64 (max_depth)"),
        (b"\xdd\x00\x01\x86\xa1" + bytes(100_001), "has more than 100000 items (max_items)"),
        (b"\x81\x81" + bytes(100), "has a container as a map's key"),
    ],
)
def test_a_reply_over_the_limits_is_not_decoded(rig: Rig, payload: bytes, text: str) -> None:
    rig.call("m")
    rig.answer(1, payload=payload)
    assert rig.owner.log[-1][3] == ("TooLarge", text)


def test_a_reply_too_large_is_handed_up_while_its_call_stays_open(twin: SimpleNamespace) -> None:
    rig = Rig(twin, max_body=100)
    rig.call("m")
    rig.call("m")
    rig.answer(1, bytes(101))
    rig.answer(2, 5)
    what, (frame,) = rig.owner.log[-1]
    assert (what, frame["id"], frame["reply"], frame["oversize"]) == ("frames", 1, True, 103)
    assert rig.waiters[1].result() == 5
    assert rig.lane.table.take(1) is not None


def test_replies_to_nobody_are_counted(rig: Rig) -> None:
    for _ in range(2):
        rig.call("m")
    rig.answer(1)
    rig.answer(1)  # twice
    rig.answer(3)  # never called
    rig.answer(0)
    rig.answer(2**64 - 1)
    assert (rig.lane.late, rig.lane.unknown, rig.lane.replies_in) == (1, 3, 1)


def test_a_reply_to_a_call_given_up_is_late(rig: Rig) -> None:
    waiter = rig.call("m")
    waiter.cancel()
    rig.answer(1)
    assert (rig.lane.late, rig.lane.given_up, rig.lane.replies_in) == (1, 1, 1)
    assert len(rig.lane.table) == 0


def test_a_waiter_that_fails_breaks_the_lane(rig: Rig) -> None:
    class Stubborn:
        def done(self) -> bool:
            return False

        def set_result(self, value: Any) -> None:
            raise KeyError("no")

    rig.share = rig.twin.LoopShare(Stubborn, rig.soon.append, lambda: 0.0, lambda: True, 0, None)
    lane = rig.twin.Lane(rig.owner, rig.share, 1000)
    lane.encoders, lane.decoders = rig.lane.encoders, rig.lane.decoders
    lane.opened = True
    lane.call("m", (), None, 0.0, b"", None)
    lane.feed(rig.twin.encode_frame(0, 1, reply=True, serializer=1, payload=b"\x05"))
    assert rig.owner.log[-1] == ("broken", ("KeyError", "'no'"))


# What is not sent


def test_arguments_that_can_not_be_encoded_cost_nothing(rig: Rig) -> None:
    with pytest.raises(CodecError, match="^Arith.add: arguments can't be encoded: ") as caught:
        rig.call("Arith.add", object())
    assert isinstance(caught.value.__cause__, TypeError)
    assert (len(rig.lane.table), rig.lane.calls_out, rig.lane.unsent, rig.waiters) == (0, 0, 0, [])
    rig.call("Arith.add")
    assert rig.sent()[0].name == b"Arith.add"


def test_arguments_over_the_peers_limit_are_not_sent(rig: Rig) -> None:
    rig.call("m")
    rig.lane.peer_body = 104
    rig.call("m", bytes(100), metadata=b"m")
    text = "^m: arguments of 105 bytes are over the server's max_body of 104$"
    for size, metadata in ((101, b"m"), (100, b"me")):
        with pytest.raises(TooLarge, match=text) as caught:
            rig.call("m", bytes(size), metadata=metadata)
        assert caught.value.method == "m"
    assert rig.lane.calls_out == 2


def test_the_first_call_of_a_method_has_its_name_to_carry_too(rig: Rig) -> None:
    rig.lane.peer_body = 104
    with pytest.raises(TooLarge, match="^né: arguments of 105 bytes are over"):
        rig.call("né", bytes(99))
    rig.call("né", bytes(98))
    rig.call("né", bytes(101))
    assert rig.lane.calls_out == 2


@pytest.mark.parametrize("serializer", [3, 31])
def test_without_a_codec_nothing_is_sent(rig: Rig, serializer: int) -> None:
    rig.lane.serializer = serializer
    text = f"^m: arguments can't be encoded: no codec for serializer {serializer}$"
    with pytest.raises(CodecError, match=text):
        rig.call("m")


@pytest.mark.parametrize("kind", range(len(BadCodec.KINDS)))
def test_a_codec_must_give_bytes(rig: Rig, kind: int) -> None:
    given = BadCodec.KINDS[kind]
    rig.lane.encoders[17] = lambda value: given
    rig.lane.serializer = 17
    text = f"^m: arguments can't be encoded: serializer 17 gave {type(given).__name__}, not bytes$"
    with pytest.raises(CodecError, match=text):
        rig.call("m")
    with pytest.raises(CodecError, match="^serializer 17 gave"):
        rig.lane.encode_result(17, 5)


@pytest.mark.parametrize("number", [32, 1000, -1000])
def test_codecs_are_looked_for_in_their_places_only(rig: Rig, number: int) -> None:
    with pytest.raises(IndexError):
        rig.lane.encode_result(number, 5)
    rig.lane.encoders = rig.lane.decoders = [None]
    waiter = rig.call
    with pytest.raises(CodecError, match="list index out of range"):
        waiter("m")


def test_too_short_a_list_of_decoders_breaks_the_lane_not_the_process(rig: Rig) -> None:
    rig.call("m")
    rig.lane.decoders = []
    rig.answer(1, 5)
    assert rig.owner.log[-1] == ("broken", ("IndexError", "list index out of range"))


@pytest.mark.parametrize("name", ["", "x" * 256, "é" * 128, "\udc80", "x" * 70_000])
def test_names_that_no_method_can_have_are_refused(rig: Rig, name: str) -> None:
    for send in (rig.call, lambda name: rig.lane.notify(name, (), None, b"")):
        with pytest.raises(MethodNotFound, match="has 1 to 255 bytes of UTF-8$") as caught:
            send(name)
        assert caught.value.method == name
    assert (len(rig.lane.table), rig.lane.calls_out, rig.lane.unsent) == (0, 0, 0)
    rig.call("x" * 255)
    assert rig.sent()[0].name == b"x" * 255


@pytest.mark.parametrize("name", [None, 5, b"bytes"])
def test_names_are_text(rig: Rig, name: Any) -> None:
    with pytest.raises(TypeError):
        rig.call(name)
    assert (len(rig.lane.table), rig.lane.unsent) == (0, 0)


def test_metadata_has_a_limit_of_the_wire(rig: Rig) -> None:
    rig.lane.peer_body = 2**20
    rig.call("m", metadata=bytes(65_535))
    with pytest.raises(TooLarge, match="^m: metadata of 65536 bytes is over 65535$"):
        rig.call("m", metadata=bytes(65_536))
    assert (len(rig.lane.table), rig.lane.calls_out) == (1, 1)


def test_numbers_end(twin: SimpleNamespace) -> None:
    rig = Rig(twin, first_id=wire.ID_MAX - 2)
    rig.call("m")
    rig.lane.notify("m", (), None, b"")
    for send in (rig.call, lambda name: rig.lane.notify(name, (), None, b"")):
        with pytest.raises(ProtocolError, match="used up"):
            send("m")
    rig.turn()
    assert [frame.id for frame in rig.sent()] == [wire.ID_MAX - 2, wire.ID_MAX - 1]


def test_only_on_its_own_loop(rig: Rig) -> None:
    rig.running = False
    for send in (rig.call, lambda name: rig.lane.notify(name, (), None, b"")):
        with pytest.raises(ConfigError, match="^this client is connected on another event loop"):
            send("m")
    assert rig.lane.calls_out == 0


def test_only_in_its_own_thread(twin: SimpleNamespace) -> None:
    owner = Rig(twin).owner
    share = twin.LoopShare(None, None, None, lambda: True, threading.get_ident() + 1, None)
    lane = twin.Lane(owner, share, 1000)
    for send in (lane.call, lane.notify):
        args = ("m", (), None, 0.0, b"", None) if send == lane.call else ("m", (), None, b"")
        with pytest.raises(ConfigError, match="^this client belongs to the event loop of another"):
            send(*args)


# Deadlines


@pytest.mark.parametrize(
    ("timeout", "millis"),
    [
        (0.0, 0),
        (-1.0, 0),
        (math.nan, 0),
        (0.0001, 1),
        (0.001, 2),
        (1.0, 1001),
        (4294967.0, 4294967001),
        (4294967.294, 2**32 - 1),
        (1e9, 2**32 - 1),
        (1e300, 2**32 - 1),
        (math.inf, 2**32 - 1),
    ],
)
def test_what_is_left_is_told_in_milliseconds(rig: Rig, timeout: float, millis: int) -> None:
    rig.call("m", timeout=timeout)
    assert rig.sent()[0].time == millis
    _, _, _, started, deadline = rig.lane.table.take(1)
    assert (started, deadline) == ((100.0, 100.0 + timeout) if timeout > 0 else (0.0, 0.0))


def test_late_calls_and_those_given_up_are_swept(rig: Rig) -> None:
    waiters = [rig.call("m", timeout=timeout) for timeout in (1.0, 0.0, 1.0, 0.0, 9.0)]
    waiters[0].cancel()  # given up and late: told once, as late
    waiters[1].cancel()
    rig.turn()
    rig.taken()
    late = rig.lane.sweep(101.0)
    assert [slot[0] for slot in late] == [waiters[0], waiters[2]]
    assert rig.lane.ticking
    rig.turn()
    told = [(frame.kind, frame.id, frame.status) for frame in rig.sent()]
    cancelled, timed_out = wire.StatusCode.CANCELLED, wire.StatusCode.CLIENT_TIMEOUT
    assert told == [
        (wire.Kind.CANCEL, 2, cancelled),
        (wire.Kind.CANCEL, 1, timed_out),
        (wire.Kind.CANCEL, 3, timed_out),
    ]
    assert rig.lane.given_up == 3
    assert len(rig.lane.table) == 2
    rig.lane.sweep(200.0)
    rig.answer(4)
    assert rig.lane.sweep(200.0) == []
    assert not rig.lane.ticking


def test_the_owner_is_told_to_tick_once(rig: Rig) -> None:
    rig.call("m")
    rig.call("m")
    assert rig.owner.log == [("tick",)]
    rig.answer(1)
    rig.answer(2)
    rig.lane.sweep(0.0)
    rig.call("m")
    assert rig.owner.log == [("tick",)] * 2


# Oneway, raw bytes, method numbers


def test_a_oneway_call_waits_for_nothing(rig: Rig) -> None:
    for _ in range(2):
        assert rig.lane.notify("m", (1,), {"k": 2}, b"md") is None
    assert rig.writes == 0
    rig.turn()
    first, second = rig.sent()
    assert first.oneway
    assert second.oneway
    assert (first.id, first.name, first.metadata, second.id, second.name) == (
        1,
        b"m",
        b"md",
        2,
        b"",
    )
    assert (len(rig.lane.table), rig.lane.calls_out) == (0, 2)
    with pytest.raises(CodecError):
        rig.lane.notify("m", (object(),), None, b"")


@pytest.mark.parametrize("size", [wire.BIG_BODY - 1, wire.BIG_BODY])
@pytest.mark.parametrize("raw", [False, True])
def test_large_bytes_go_raw_if_the_peer_takes_that(rig: Rig, size: int, raw: bool) -> None:
    rig.lane.raw = raw
    data = bytes(size)
    rig.call("m", data)
    rig.call("m", data, data)
    rig.call("m", bytearray(data))
    rig.call("m", k=data)
    rig.turn()
    frames = rig.sent()
    is_raw = raw and size == wire.BIG_BODY
    assert [frame.serializer for frame in frames] == [0 if is_raw else 1, 1, 1, 1]
    assert frames[0].payload == (data if is_raw else pack((data,)))
    assert rig.lane.encode_result(1, data) == ((0, data) if is_raw else (1, pack(data)))
    assert rig.lane.encode_result(2, "x") == (2, b'"x"')


def test_the_raw_codec_carries_one_value(rig: Rig) -> None:
    rig.lane.serializer = wire.Serializer.RAW
    rig.call("m", b"abc")
    rig.call("m")
    rig.turn()
    assert [(frame.serializer, frame.payload) for frame in rig.sent()] == [(0, b"abc"), (0, b"")]
    for args, kwargs in (((b"a", b"b"), None), ((), {"k": b"a"}), ((b"a",), {"k": b"a"})):
        with pytest.raises(
            CodecError, match="^m: the raw codec carries one bytes argument, no names$"
        ):
            rig.lane.call("m", args, kwargs, 0.0, b"", None)
    with pytest.raises(
        CodecError, match="^m: arguments can't be encoded: the raw codec takes bytes"
    ):
        rig.call("m", "text")
    rig.answer(1, serializer=0, payload=b"out")
    assert rig.waiters[0].result() == b"out"


def test_methods_beyond_the_peers_numbers_go_by_name(rig: Rig) -> None:
    rig.lane.peer_methods = 2
    for name in ("a", "b", "c", "c", "a"):
        rig.call(name)
    rig.turn()
    told = [(frame.arg, frame.name) for frame in rig.sent()]
    assert told == [(1, b"a"), (2, b"b"), (0, b"c"), (0, b"c"), (1, b"")]


def test_a_method_the_peer_forgot_is_named_again(rig: Rig) -> None:
    for forgotten in (None, "a", "a", "stranger"):
        if forgotten:
            rig.lane.forget(forgotten)
        rig.call("a")
        rig.call("b")
    rig.turn()
    told = [(frame.arg, frame.name) for frame in rig.sent()]
    assert told == [
        (1, b"a"), (2, b"b"), (1, b"a"), (2, b""), (1, b"a"), (2, b""), (1, b""), (2, b""),
    ]  # fmt: skip


def test_a_method_named_again_counts_its_name_to_the_limit(rig: Rig) -> None:
    rig.lane.peer_body = 300
    rig.call("a" * 100)
    rig.lane.forget("a" * 100)
    with pytest.raises(TooLarge):
        rig.call("a" * 100, bytes(250))
    assert len(rig.lane.table) == 1


def test_large_bodies_leave_without_being_joined(rig: Rig) -> None:
    seen: list[Any] = []
    rig.lane.attach(lambda data: seen.append(data), lambda parts: seen.append(list(parts)))
    big = bytes(wire.BIG_BODY)
    rig.lane.raw = True
    rig.call("m", big)
    rig.call("m")
    rig.call("m", big)
    rig.call("m")
    rig.turn()
    assert [type(one) for one in seen] == [list, list]
    assert all(part for parts in seen for part in parts)  # no empty ones
    assert sum(any(part is big for part in parts) for parts in seen) == 2
    assert sum(part is big for parts in seen for part in parts) == 2
    rig.call("m")
    rig.turn()
    assert isinstance(seen[-1], bytes)


def test_a_frame_is_sent_whole(rig: Rig) -> None:
    rig.lane.send(b"frame")
    assert rig.writes == 0
    rig.turn()
    assert rig.taken() == b"frame"
    big = bytes(wire.BIG_BODY)
    rig.lane.send(b"small")
    rig.lane.send(big)
    rig.lane.send(b"")
    rig.turn()
    assert rig.taken() == b"small" + big
    rig.lane.send(b"")
    rig.turn()
    assert rig.writes == 2


@pytest.mark.parametrize(
    ("args", "want"),
    [
        ((7, 1, b"body"), {"id": 7, "serializer": 1, "payload": b"body"}),
        ((7, 2, b"", 44), {"status": 44, "serializer": 2}),
        ((7, 1, b"", 60, 1001), {"status": 60, "arg": 1001}),
        ((7, 1, b"", 0, 0, 137), {"time": 137}),
        ((7, 1, b"", 60, 5, 2**40), {"arg": 5, "time": 2**32 - 1}),
    ],
)
def test_a_reply_is_written(rig: Rig, args: Any, want: dict[str, Any]) -> None:
    rig.lane.reply(*args)
    assert rig.writes == 0
    rig.turn()
    (frame,) = rig.sent()
    assert frame.reply
    assert {field: getattr(frame, field) for field in want} == want


def test_a_reply_has_names_for_its_arguments(rig: Rig) -> None:
    rig.lane.reply(id=1, serializer=1, body=b"x", status=2, arg=3, time=4)
    rig.turn()
    assert shown(rig.sent()[0])["time"] == 4


def test_growing_out_buffers_lose_nothing(rig: Rig) -> None:
    for size in range(0, 6000, 37):
        rig.lane.reply(size + 1, 1, bytes([size % 251]) * size)
    rig.turn()
    frames = rig.sent()
    assert [len(frame.payload) for frame in frames] == list(range(0, 6000, 37))
    assert all(set(frame.payload) <= {len(frame.payload) % 251} for frame in frames)
