"""Calls that go on are numbered anew, and names that were lost are said again."""

import json

import pytest

from fastrpc.errors import FrameError
from fastrpc.frame import Frame, FrameDecoder, encode_frame
from fastrpc.testing.ledger import FRAME_MAX, Head, Ledger, Passage, answer_of, split, with_id
from fastrpc.wire import BIT_END, ID_MAX, Kind
from tests.docs.pages import ROOT

GOLDEN = json.loads((ROOT / "tests" / "vectors" / "golden.json").read_text())["good"]


def read(frame: bytes) -> Frame:
    (found,) = FrameDecoder().feed(frame)
    return found


def passage(ledger: Ledger, frame: bytes) -> Passage:
    made = Passage(Head.of(frame).id, ledger.name_of(frame), [], frame, is_oneway=False)
    ledger.begin(made)
    return made


def call(id: int, arg: int = 1, name: bytes = b"", **fields: object) -> bytes:
    return encode_frame(Kind.CALL, id, arg=arg, name=name, **fields)  # type: ignore[arg-type]


def test_frames_are_cut_as_they_came() -> None:
    frames = [bytes.fromhex(each["hex"]) for each in GOLDEN]
    whole, buffer, found = b"".join(frames), bytearray(), []
    for at in range(0, len(whole), 7):
        buffer += whole[at : at + 7]
        found += split(buffer)
    assert found == frames
    assert not buffer


@pytest.mark.parametrize("entry", GOLDEN, ids=lambda entry: entry["name"])
def test_heads_are_those_of_the_decoder(entry: dict[str, str]) -> None:
    frame = bytes.fromhex(entry["hex"])
    head, told = Head.of(frame), read(frame)
    assert head == (told.kind, told.id, told.reply, told.oneway, told.heartbeat)
    assert read(with_id(frame, 77)).id == 77
    assert with_id(frame, told.id) is frame


def test_what_is_no_frame_is_refused() -> None:
    frame = call(1, name=b"A.b")
    for wrong in (b"GET / HTTP/1.1\r\nHost: x\r\n", frame[:2] + b"\x00\x10" + frame[4:]):
        with pytest.raises(FrameError, match="no frame begins with"):
            split(bytearray(wrong))
    sized = frame[:16] + (FRAME_MAX + 1).to_bytes(4, "big") + frame[20:]
    with pytest.raises(FrameError, match=f"is over {FRAME_MAX}"):
        split(bytearray(sized))
    allowed = bytearray(frame[:16] + FRAME_MAX.to_bytes(4, "big") + frame[20:])
    assert split(allowed) == []


def test_numbers_rise_whatever_is_lost_or_overtaken() -> None:
    ledger = Ledger()
    first, second, third = (passage(ledger, call(id, name=b"A.b")) for id in (1, 2, 3))
    assert [read(ledger.number(each)).id for each in (third, first, third)] == [1, 2, 3]
    assert (third.sent, first.sent, second.sent) == ([1, 3], [2], [])
    assert ledger.sent[3] is ledger.open[3] is third
    ledger.end(third)
    assert (set(ledger.sent), set(ledger.open)) == ({2}, {1, 2})
    ledger.end(second)
    ledger.end(second)
    assert set(ledger.open) == {1}


def test_a_goaway_means_the_caller_s_numbers() -> None:
    ledger = Ledger()
    for id in (2, 5, 4, 9):  # 1, 3 and others were lost
        ledger.number(passage(ledger, call(id)))
    assert [ledger.taken(number) for number in (0, 1, 2, 3, 4, 50)] == [0, 2, 5, 5, 9, 9]
    assert ledger.taken(ID_MAX) == ID_MAX


def test_a_name_that_was_lost_is_said_by_the_next() -> None:
    ledger = Ledger()
    lost = passage(ledger, call(1, name=b"A.b"))
    fields = {
        "payload": b"\x90",
        "buffers": [b"x" * 11, b""],
        "metadata": b"\x01k\x00\x01v",
        "time": 9,
    }
    after = passage(ledger, call(2, serializer=1, bits=BIT_END, **fields))
    assert (lost.method, after.method) == ("A.b", "A.b")
    said = read(ledger.number(after))
    assert (said.name, said.arg, said.id, said.bits & BIT_END) == (b"A.b", 1, 1, BIT_END)
    assert {name: getattr(said, name) for name in fields} == fields
    again = ledger.number(passage(ledger, call(3)))
    assert read(again).name == b""
    assert read(ledger.number(passage(ledger, call(4, name=b"A.b")))).name == b"A.b"
    assert ledger.name_of(call(5, arg=0, name=b"C.d")) == "C.d"
    assert ledger.name_of(call(6, arg=7)) == ""
    assert read(ledger.number(passage(ledger, call(7, arg=7)))).name == b""


def test_answers_are_compared_by_what_they_say() -> None:
    def reply(**fields: object) -> bytes:
        return encode_frame(Kind.CALL, 1, reply=True, **fields)  # type: ignore[arg-type]

    same = reply(payload=b"\x05", serializer=1, time=100)
    assert answer_of(same) == answer_of(with_id(reply(payload=b"\x05", serializer=1, time=7), 9))
    for other in ({"payload": b"\x06"}, {"status": 50}, {"buffers": [b"x"]}, {"arg": 3}):
        told = {"payload": b"\x05", "serializer": 1, **other}
        assert answer_of(reply(**told)) != answer_of(same)
