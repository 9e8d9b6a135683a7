"""encode_frame: the shortest header that holds the fields, and refusals."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc import wire
from fastrpc.errors import ConfigError
from tests.frame.model import read_frames
from tests.frame.streams import FIELDS
from tests.frame.twins import agree, both, outcome

REFUSED: dict[str, dict[str, Any]] = {
    "status 256 does not fit the header": {"status": 256},
    "status -1 does not fit the header": {"status": -1},
    "bits 256 does not fit the header": {"bits": 256},
    "kind beside the bits 1 does not fit the header": {"bits": 0x11},
    "id -1 does not fit the header": {"id": -1},
    f"id {2**64} does not fit the header": {"id": 2**64},
    f"arg {2**32} does not fit the header": {"arg": 2**32},
    f"time {2**32} does not fit the header": {"time": 2**32},
    "time -5 does not fit the header": {"time": -5},
    "name size 65536 does not fit the header": {"name": bytes(65_536)},
    "metadata size 65536 does not fit the header": {"metadata": bytes(65_536)},
    "serializer 32 or kind 0 does not fit the header": {"serializer": 32},
    "serializer -1 or kind 0 does not fit the header": {"serializer": -1},
    "serializer 0 or kind 16 does not fit the header": {"kind": 16},
    "serializer 0 or kind -1 does not fit the header": {"kind": -1},
    "header size must be a multiple of 4 up to 256, got 22": {"header_size": 22},
    "header size must be a multiple of 4 up to 256, got 260": {"header_size": 260},
    "1025 segments are over 1024": {"buffers": [b""] * 1024},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_fit_is_refused(twin: SimpleNamespace, message: str) -> None:
    fields = {"kind": 0, "id": 1} | REFUSED[message]
    with pytest.raises(ConfigError) as caught:
        twin.encode_frame(**fields)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, wire.HEADER_BASE),
        ({"status": 60, "reply": True, "payload": b"x"}, wire.HEADER_BASE),
        ({"arg": 1}, wire.HEADER_ARG),
        ({"time": 1}, wire.HEADER_TIME),
        ({"arg": 1, "time": 1}, wire.HEADER_TIME),
        ({"name": b"n"}, wire.HEADER_FULL),
        ({"metadata": b"m"}, wire.HEADER_FULL),
        ({"header_size": 28}, 28),
        ({"header_size": 20, "time": 7}, wire.HEADER_TIME),
        ({"header_size": -4}, wire.HEADER_BASE),
        ({"header_size": 256, "name": b"n"}, 256),
    ],
)
def test_the_header_is_the_shortest_that_holds_all(
    twin: SimpleNamespace, fields: dict[str, Any], size: int
) -> None:
    data = twin.encode_frame(0, 1, **fields)
    assert int.from_bytes(data[2:4], "big") == size
    body = fields.get("name", b"") + fields.get("metadata", b"") + fields.get("payload", b"")
    assert data[size:] == body


def test_the_limits_themselves_fit(twin: SimpleNamespace) -> None:
    top = {"status": 255, "bits": 0xF0 & ~wire.BIT_SEG, "arg": 2**32 - 1, "time": 2**32 - 1}
    data = twin.encode_frame(
        15, 2**64 - 1, serializer=31, name=bytes(65_535), metadata=bytes(65_535), **top
    )
    (frame,) = twin.FrameDecoder().feed(data)
    assert (frame.kind, frame.id, frame.serializer) == (15, 2**64 - 1, 31)
    assert {field: getattr(frame, field) for field in top} == top
    assert (len(frame.name), len(frame.metadata)) == (65_535, 65_535)


def test_segments_begin_at_multiples_of_eight_with_zeros_between(twin: SimpleNamespace) -> None:
    data = twin.encode_frame(
        0, 1, name=b"abc", payload=b"12345", buffers=[b"", b"67", bytearray(b"8")]
    )
    body = data[32:]
    table = b"".join(number.to_bytes(4, "big") for number in (4, 5, 0, 2, 1))
    # name 3 + table 20 = 23; segments at 24, 32, 32, 40.
    assert body == b"abc" + table + b"\0" + b"12345" + bytes(3) + b"67" + bytes(6) + b"8"
    assert data[7] == wire.BIT_SEG


def test_a_thousand_and_twenty_four_segments_fit(twin: SimpleNamespace) -> None:
    data = twin.encode_frame(0, 1, payload=b"p", buffers=[b"b"] * 1023)
    (frame,) = twin.FrameDecoder().feed(data)
    assert (frame.payload, frame.buffers) == (b"p", [b"b"] * 1023)


def test_a_body_of_two_gigabytes_is_refused_before_it_is_joined(twin: SimpleNamespace) -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 2**31

    with pytest.raises((ConfigError, TypeError), match="over 2147483647|expected bytes"):
        twin.encode_frame(0, 1, payload=Huge())


@pytest.mark.parametrize("field", ["name", "metadata", "payload"])
def test_only_bytes_are_bytes(twin: SimpleNamespace, field: str) -> None:
    with pytest.raises(TypeError):
        twin.encode_frame(0, 1, **{field: "text"})
    with pytest.raises(TypeError):
        twin.encode_frame(0, 1, **{field: None})


def test_fields_beyond_the_id_go_by_name(twin: SimpleNamespace) -> None:
    with pytest.raises(TypeError):
        twin.encode_frame(0, 1, 2)


@pytest.mark.compiled
@given(fields=FIELDS)
def test_both_twins_write_the_same_and_read_it_back(fields: dict[str, Any]) -> None:
    pure, compiled = both()
    fields = {"name": b"", "metadata": b""} | fields
    one = outcome(pure.encode_frame, **fields)
    agree("fields encoded", one, outcome(compiled.encode_frame, **fields), fields)
    if one[0] == "raised":
        return
    frames, wrong = read_frames(one[1], wire.BODY_MAX)
    assert wrong == ""
    (frame,) = frames
    fields.pop("header_size", None)
    if fields.get("buffers"):
        fields["bits"] = fields.get("bits", 0) | wire.BIT_SEG
    assert {field: frame[field] for field in fields} == fields


_ODD = st.sampled_from([-1, 0, 1, 15, 16, 31, 32, 255, 256, 2**16, 2**32, 2**63, 2**64])


@pytest.mark.compiled
@given(
    fields=st.fixed_dictionaries(
        {"kind": _ODD, "id": _ODD},
        optional=dict.fromkeys(
            ("serializer", "status", "bits", "arg", "time", "header_size"), _ODD
        ),
    )
)
def test_both_twins_refuse_the_same_numbers(fields: dict[str, int]) -> None:
    pure, compiled = both()
    agree(
        "numbers encoded",
        outcome(pure.encode_frame, **fields),
        outcome(compiled.encode_frame, **fields),
    )
