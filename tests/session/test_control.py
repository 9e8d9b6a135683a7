"""Frames that are no plain calls: what each does, and how often it may."""

from typing import Any

import msgspec
import pytest

from fastrpc.frame import encode_frame
from fastrpc.protocol.guard import CANCEL_BURST, PING_STRIKES
from fastrpc.wire import PING_BODY_MAX, Kind
from tests.session.rig import MSGPACK, Rig, kinds

pytestmark = pytest.mark.asyncio
pack = msgspec.msgpack.encode
GONE = (Kind.GOAWAY, 70)


class Work:
    """Something to do."""

    def add(self, a: int, b: int) -> int:
        return a + b


def call(id: int, **more: Any) -> bytes:
    return encode_frame(
        Kind.CALL, id, serializer=MSGPACK, name=b"Work.add", payload=pack([2, 3]), **more
    )


def ping(id: int, size: int = 0) -> bytes:
    return encode_frame(Kind.CALL, id, heartbeat=True, payload=bytes(size))


async def test_each_kind_as_a_request() -> None:
    known = {Kind.CALL, Kind.OPEN}
    for kind in range(16):
        if kind == Kind.HELLO:
            continue
        rig = Rig(Work()).greet()
        rig.feed(encode_frame(kind, 1, status=53 if kind == Kind.GOAWAY else 0))
        expected = [(Kind.CALL, 44)] if kind in known else [GONE] if 8 <= kind <= 11 else []
        assert kinds(rig.frames()) == expected, kind


async def test_each_kind_as_a_reply() -> None:
    allowed = {Kind.CALL, Kind.DATA, Kind.CREDIT, 12, 13, 14, 15}
    for kind in range(16):
        rig = Rig(Work()).greet()
        rig.feed(encode_frame(kind, 1, reply=True))
        assert kinds(rig.frames()) == ([] if kind in allowed else [GONE]), kind


@pytest.mark.parametrize("kind", range(16))
async def test_bit_more_is_reserved_everywhere(kind: int) -> None:
    rig = Rig(Work()).greet()
    rig.feed(encode_frame(kind, 1, bits=0x80))
    assert kinds(rig.frames()) == [GONE]


async def test_a_pong_has_the_token_and_the_body_of_its_ping() -> None:
    rig = Rig(Work()).greet()
    rig.feed(encode_frame(Kind.CALL, 2**64 - 1, heartbeat=True, payload=b"abc"))
    (pong,) = rig.frames()
    assert (pong.id, pong.payload, pong.heartbeat, pong.reply) == (2**64 - 1, b"abc", True, True)


@pytest.mark.parametrize(("size", "fine"), [(PING_BODY_MAX, True), (PING_BODY_MAX + 1, False)])
async def test_the_body_of_a_ping_at_its_limit_and_past_it(size: int, fine: bool) -> None:
    rig = Rig(Work()).greet()
    rig.feed(ping(1, size))
    assert kinds(rig.frames()) == ([(Kind.CALL, 0)] if fine else [GONE])


async def test_a_ping_too_long_to_be_read_is_too_long() -> None:
    rig = Rig(Work(), max_body=1000).greet()
    rig.feed(ping(1, 1001))
    assert kinds(rig.frames()) == [GONE]


async def test_pings_at_the_agreed_pace_and_faster() -> None:
    rig = Rig(Work(), ping_interval=2.0).greet()
    for number in range(10):
        rig.feed(ping(number))
        rig.now += 2.0
    rig.feed(*(ping(number) for number in range(PING_STRIKES + 1)))
    assert len(rig.frames()) == 10 + PING_STRIKES + 1
    rig.feed(ping(99))
    assert kinds(rig.frames()) == [(Kind.GOAWAY, 71)]


async def test_pongs_are_not_counted() -> None:
    rig = Rig(Work()).greet()
    rig.feed(encode_frame(Kind.CALL, 1, heartbeat=True, reply=True) * 1000)
    assert rig.frames() == []
    assert not rig.transport.events


async def test_cancels_at_the_burst_and_one_past_it() -> None:
    rig = Rig(Work(), max_calls=7).greet()
    cancel = encode_frame(Kind.CANCEL, 5, status=42)
    rig.feed(cancel * (CANCEL_BURST + 7))
    assert rig.frames() == []
    rig.feed(cancel)
    assert kinds(rig.frames()) == [(Kind.GOAWAY, 71)]


async def test_answered_calls_pay_for_as_many_cancels_of_others() -> None:
    rig = Rig(Work(), max_calls=1).greet()
    for id in range(1, 6 * CANCEL_BURST, 2):
        rig.feed(call(id) + call(id + 1) + encode_frame(Kind.CANCEL, id, status=42))
    assert {kind for kind, _ in kinds(rig.frames())} == {Kind.CALL}


async def test_cancelled_calls_do_not() -> None:
    rig = Rig(Work(), max_calls=1).greet()
    for id in range(1, 3 * CANCEL_BURST):
        rig.feed(call(id) + encode_frame(Kind.CANCEL, id, status=42))
    assert rig.frames()[-1].status == 71
    assert rig.session.lane.calls_in < CANCEL_BURST + 10


async def test_open_is_a_call_and_is_never_oneway() -> None:
    rig = Rig(Work()).greet()
    rig.feed(encode_frame(Kind.OPEN, 1, name=b"Work.add", oneway=True))
    rig.feed(encode_frame(Kind.OPEN, 1, name=b"Work.add"))
    assert kinds(rig.frames()) == [(Kind.CALL, 40), GONE]


async def test_goaway_of_a_client_changes_nothing_for_its_calls() -> None:
    rig = Rig(Work()).greet()
    rig.feed(encode_frame(Kind.GOAWAY, 0, status=53) * 2 + call(1))
    assert kinds(rig.frames()) == [(Kind.CALL, 0)]
    assert rig.told[-2:] == ["drain", "drain"]


async def test_goaway_before_hello_is_only_the_servers() -> None:
    rig = Rig(Work()).connect()
    rig.feed(encode_frame(Kind.GOAWAY, 0, status=53))
    assert kinds(rig.frames()) == [GONE]
