"""msgpack-rpc as a peer sees it: a real session behind the tongue, values in and out."""

import asyncio
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc import errors
from fastrpc.frame import Frame, FrameDecoder, encode_frame
from fastrpc.gateway.msgpackrpc import ID_MAX, MsgpackRpc
from fastrpc.wire import BIT_END, Kind, StatusCode
from tests.gateway.party import PackParty

pytestmark = pytest.mark.asyncio


async def test_answers_calls() -> None:
    party = PackParty()
    assert party.ask(0, 0, "Arith.add", [2, 3]) == [1, 0, None, 5]
    assert party.ask(0, ID_MAX, b"Arith.add", [2, 3]) == [1, ID_MAX, None, 5]
    assert party.ask(0, 7, "Arith.subtract", {"subtrahend": 1, "minuend": 5}) == [1, 7, None, 4]
    assert party.ask(0, 8, "Arith.echo", [{"k": [b"\xff", 1.5]}]) == [
        1,
        8,
        None,
        {"k": [b"\xff", 1.5]},
    ]


async def test_is_the_example_of_the_wire_document() -> None:
    party = PackParty()
    sent = b"\x94\x00\x01\xa9Arith.add\x92\x02\x03"
    assert len(sent) == 16
    assert party.hear(sent) == [b"\x94\x01\x01\xc0\x05"]


@pytest.mark.parametrize(
    "head", [b"\x94\x00\x05", b"\xdc\x00\x04\x00\xcc\x05", b"\xdd\x00\x00\x00\x04\xcc\x00\xcd\x00\x05",
             b"\x94\xcd\x00\x00\xce\x00\x00\x00\x05", b"\x94\x00\xcf\0\0\0\0\0\0\0\x05"],
)  # fmt: skip
@pytest.mark.parametrize(
    "name", [b"\xa9", b"\xd9\x09", b"\xda\x00\x09", b"\xdb\0\0\0\x09", b"\xc4\x09"]
)
async def test_reads_every_way_to_write_the_same(head: bytes, name: bytes) -> None:
    for params in (b"\x92\x02\x03", b"\xdc\x00\x02\x02\x03", b"\xdd\0\0\0\x02\x02\x03"):
        assert PackParty().hear(head + name + b"Arith.add" + params) == [b"\x94\x01\x05\xc0\x05"]


async def test_runs_notifications() -> None:
    party = PackParty()
    party.ask(2, "Arith.note", [5])
    party.ask(2, "nothing", [])
    party.ask(2, 17, [])
    party.ask(2, "Arith.note", 5)
    assert party.arith.noted == [5]
    assert party.said == []


async def test_tells_errors_as_neovim_does() -> None:
    party = PackParty()
    _, _, error, result = party.ask(0, 1, "nothing", [])
    assert ("there is no" in error[1], "nothing" in error[1], result) == (True, True, None)
    assert error[0] == 0
    assert party.ask(0, 1, "Arith.fail", ["no"])[2] == [0, "RpcError: no"]
    assert party.ask(0, 1, "Arith.crash", [])[2] == [0, "ZeroDivisionError: by nothing"]
    kind, text = party.ask(0, 1, "Arith.add", [1, "x"])[2]
    assert (kind, "Arith.add" in text) == (1, True)
    assert "text" in party.ask(0, 1, 17, [])[2][1]
    assert "text" in party.ask(0, 1, "", [])[2][1]
    assert "text" in party.ask(0, 1, "m" * 2000, [])[2][1]
    assert "array" in party.ask(0, 1, "Arith.add", 5)[2][1]
    assert "stream" in party.ask(0, 1, "Arith.count", [5])[2][1]
    assert "stream" in party.ask(0, 1, "Arith.total", [])[2][1]


async def test_sends_large_bytes_as_bytes() -> None:
    party = PackParty()
    assert party.ask(0, 1, "Arith.blob", [100_000])[3] == b"x" * 100_000


async def test_refuses_calls_over_the_sessions_limit() -> None:
    party = PackParty(limits={"max_calls": 2})
    for id in (1, 2):
        party.ask(0, id, "Arith.wait", [])
    await party.settle()
    _, id, error, _ = party.ask(0, 3, "Arith.wait", [])
    assert (id, error[0]) == (3, 0)
    assert "2" in error[1]


async def test_does_not_take_an_id_twice_while_it_is_open() -> None:
    party = PackParty()
    party.ask(0, 5, "Arith.wait", [])
    await party.settle()
    party.arith.gate.set()
    await party.settle()
    assert party.values() == [[1, 5, None, "done"]]
    assert party.ask(0, 5, "Arith.add", [1, 2])[3] == 3
    party.arith.gate.clear()
    party.ask(0, 5, "Arith.wait", [])
    with pytest.raises(errors.ProtocolError, match="id 5"):
        party.ask(0, 5, "Arith.add", [1, 2])


@pytest.mark.parametrize(
    "message",
    [
        5, "x", None, {"a": 1}, [], [0], [0, 1], [0, 1, "m"], [2, "m"], [3, 1, "m", []], [0, 1, "m", [], 5],
        ["0", 1, "m", []], [0, "1", "m", []], [0, 2**32, "m", []], [0, -1, "m", []], [-1, 1, "m", []],
        [0, 1.0, "m", []], [2, "m", [], 1], [1, 5, None], [[0], 1, "m", []], [0, [1], "m", []],
    ],
    ids=repr,
)  # fmt: skip
async def test_ends_where_there_is_no_message(message: Any) -> None:
    party = PackParty()
    with pytest.raises(errors.ProtocolError):
        party.hear(msgpack.packb([0, 1, "Arith.add", [1, 2]]) + msgpack.packb(message))
    party.pump()
    assert party.values() == [[1, 1, None, 3]]  # what came before is answered


async def test_notices_a_stream_that_ends_in_the_middle() -> None:
    party = PackParty()
    party.hear(msgpack.packb([0, 1, "Arith.add", [1, 2]]))
    party.tongue.eof()
    party.hear(b"\x94")
    with pytest.raises(errors.ProtocolError, match="in the middle"):
        party.tongue.eof()


# Our side calls


async def test_calls_the_peer_and_takes_its_answer() -> None:
    party = PackParty()
    party.ask(0, 1, "Arith.ask", ["double", 21])
    await party.settle()
    (asked,) = party.values()
    assert asked == [0, asked[1], "double", [21]]
    party.ask(1, asked[1], None, 42)
    await party.settle()
    assert party.values() == [[1, 1, None, 42]]
    party.ask(2, "Arith.tell", ["note", "é"])
    await party.settle()
    assert party.values() == [[2, "note", ["é"]]]


async def test_counts_answers_that_nobody_asked_for() -> None:
    party = PackParty()
    party.ask(1, 99, None, 5)
    assert party.rig.session.lane.unknown == 1


# The other role: a foreign server


async def dialled() -> PackParty:
    party = PackParty(dialled=True)
    await party.settle()
    assert "open" in party.rig.told
    assert party.said == []  # HELLO is between us
    return party


async def call(party: PackParty, *given: Any, **named: Any) -> tuple[Any, list[Any]]:
    lane = party.rig.session.lane
    waiter = asyncio.ensure_future(lane.call("far.sum", given, named or None, 0.0, b"", None))
    await party.settle()
    values = party.values()
    return waiter, values[0] if values else []


async def test_asks_a_foreign_server() -> None:
    party = await dialled()
    waiter, asked = await call(party, 1, "é", b"\xff")
    assert asked == [0, 1, "far.sum", [1, "é", b"\xff"]]
    party.ask(1, 1, None, {"x": [3]})
    assert await waiter == {"x": [3]}
    waiter, asked = await call(party, b"z" * 100_000)  # goes raw between us
    assert asked[3] == [b"z" * 100_000]
    party.ask(1, 2, None, None)
    assert await waiter is None


async def test_translates_for_a_client_that_speaks_json() -> None:
    party = await dialled()
    party.rig.session.lane.serializer = 2
    waiter, asked = await call(party, ["é", 1.5])
    assert asked[3] == [["é", 1.5]]
    party.ask(1, 1, None, {"a": [None, 2**63]})
    assert await waiter == {"a": [None, 2**63]}
    waiter, asked = await call(party)
    party.hear(b"\x94\x01\x02\xc0\xd4\x05\x00")  # an extension, which JSON can't say
    with pytest.raises(errors.CallError, match="answer"):
        await waiter


async def test_has_arguments_by_position_only() -> None:
    party = await dialled()
    waiter, asked = await call(party, a=1)
    assert asked == []
    with pytest.raises(errors.Unsupported, match="position"):
        await waiter
    waiter, _ = await call(party, 1, a=1)
    with pytest.raises(errors.Unsupported, match="position"):
        await waiter


@pytest.mark.parametrize(
    ("error", "text", "data"),
    [
        ("broken", "broken", None),
        (b"broken", "broken", None),
        ([0, "broken"], "broken", [0, "broken"]),
        ([b"broken", 1], "broken", [b"broken", 1]),
        ({"message": "broken", "code": 5}, "broken", {"message": "broken", "code": 5}),
        (17, "17", 17),
        ([], r"\[\]", []),
        (False, "False", False),
        ({"x": 1}, "{'x': 1}", {"x": 1}),
    ],
)
async def test_makes_exceptions_of_errors_of_any_shape(error: Any, text: str, data: Any) -> None:
    party = await dialled()
    waiter, asked = await call(party)
    party.ask(1, asked[1], error, None)
    with pytest.raises(errors.RpcError, match=text) as caught:
        await waiter
    assert caught.value.status == 60
    assert caught.value.data == data


@pytest.mark.parametrize(
    "error",
    [b"\x81\x01\xa1x", b"\x91" * 300 + b"\x90", b"\xc7\x01\x05x", b"\xa2\xff\xff", b"\x81\x90\x01"],
    ids=repr,
)
async def test_makes_an_exception_of_an_error_that_can_not_be_read(error: bytes) -> None:
    party = await dialled()
    waiter, asked = await call(party)
    party.hear(b"\x94\x01" + bytes([asked[1]]) + error + b"\xc0")
    with pytest.raises(errors.RpcError):
        await waiter


async def test_numbers_calls_with_32_bits_and_skips_those_in_use() -> None:
    party = await dialled()
    first, asked = await call(party)
    assert asked[1] == 1
    party.tongue._last_asked = ID_MAX - 1
    second, asked = await call(party)
    assert asked[1] == ID_MAX
    third, asked = await call(party)
    assert asked[1] == 2  # 1 is still open
    party.ask(1, 2, None, "third")
    party.ask(1, ID_MAX, None, "second")
    party.ask(1, 1, None, "first")
    assert [await first, await second, await third] == ["first", "second", "third"]


async def test_drops_answers_that_come_late() -> None:
    party = await dialled()
    waiter, _ = await call(party)
    waiter.cancel()
    party.rig.session.lane.send(encode_frame(Kind.CANCEL, 1, status=StatusCode.CANCELLED))
    await party.settle()
    party.ask(1, 1, None, 5)
    assert party.rig.session.lane.unknown == 0
    assert party.tongue._asked == party.tongue._numbers == {}


async def test_refuses_streams_of_ours() -> None:
    said: list[bytes] = []
    tongue = MsgpackRpc(said.append, said.append, dialled=True)
    tongue.take(Frame(Kind.OPEN, 1, bits=BIT_END, name=b"far.items", payload=b"\x90", serializer=1))
    (reply,) = FrameDecoder().feed(said[0])
    assert (reply.id, reply.reply, reply.status) == (1, True, 47)


async def test_takes_no_server_for_one_that_is_none() -> None:
    party = await dialled()
    with pytest.raises(errors.ProtocolError, match=r"no msgpack-rpc.*it says 'HTTP/1.1 400"):
        party.tongue.feed(b"HTTP/1.1 400 Bad Request\r\n")


# Cuts and noise

TALK = b"".join(
    msgpack.packb(message)
    for message in [
        [0, 1, "Arith.add", [1, 2]], [2, "Arith.note", ["é"]], [0, 2, "nope", []], [1, 9, None, 5],
        [0, 3, "Arith.echo", [{"a": [b"x" * 300]}]], [0, ID_MAX, "Arith.echo", ["x" * 300]],
    ]
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.asyncio(loop_factories=["asyncio"])
@given(cuts=st.lists(st.integers(0, len(TALK)), max_size=20).map(sorted))
async def test_does_not_care_how_the_stream_is_cut(cuts: list[int]) -> None:
    whole, parts = PackParty(), PackParty()
    whole.hear(TALK)
    for start, end in zip([0, *cuts], [*cuts, len(TALK)], strict=True):
        parts.hear(TALK[start:end])
    assert parts.said == whole.said
    assert len(whole.said) == 4


async def test_takes_byte_by_byte() -> None:
    whole, single = PackParty(), PackParty()
    whole.hear(TALK)
    for byte in TALK:
        single.hear(bytes([byte]))
    assert single.said == whole.said


@pytest.mark.slow
@pytest.mark.asyncio(loop_factories=["asyncio"])
@given(
    noise=st.binary(max_size=80),
    head=st.sampled_from([b"", b"\x94\x00\x01", b"\x94\x01", b"\x93\x02"]),
)
async def test_noise_is_answered_or_ends_the_connection(noise: bytes, head: bytes) -> None:
    party = PackParty()
    try:
        party.hear(head + noise)
    except errors.ProtocolError:
        return
    for answer in party.values():
        assert answer[0] == 1
