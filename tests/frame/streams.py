"""Make byte streams: frames of any kind, and what chance does to them."""

from typing import Any

from hypothesis import strategies as st

from tests.frame.golden import BAD, GOOD
from tests.frame.twins import open_twin

MAX_BODY = 64

_SMALL = st.integers(0, 5)
_U8 = st.sampled_from([0, 1, 44, 60, 255])
_U32 = st.sampled_from([0, 1, 2, 500, 2**16, 2**31, 2**32 - 1])
_IDS = st.one_of(_SMALL, st.sampled_from([2**63 - 2, 2**63 - 1, 2**63, 2**64 - 1]))
_TEXT = st.binary(max_size=6)
_PAYLOADS = st.one_of(
    st.binary(max_size=12),
    st.binary(min_size=MAX_BODY - 2, max_size=MAX_BODY + 2),
)

FIELDS = st.fixed_dictionaries(
    {"kind": st.integers(0, 15), "id": _IDS},
    optional={
        "serializer": st.integers(0, 31),
        "reply": st.booleans(),
        "oneway": st.booleans(),
        "heartbeat": st.booleans(),
        "status": _U8,
        "bits": st.sampled_from([0x00, 0x10, 0x20, 0x80, 0xB0]),
        "arg": _U32,
        "time": _U32,
        "name": _TEXT,
        "metadata": _TEXT,
        "payload": _PAYLOADS,
        "buffers": st.lists(st.binary(max_size=9), max_size=3),
        "header_size": st.sampled_from([0, 20, 24, 28, 32, 36, 48, 256]),
    },
)


def encoded(fields: dict[str, Any]) -> bytes:
    """Return the frame with *fields*, from the pure twin."""
    fields = dict(fields)
    data: bytes = open_twin("pure").encode_frame(fields.pop("kind"), fields.pop("id"), **fields)
    return data


@st.composite
def _spoilt(draw: st.DrawFn) -> bytes:
    """Return a frame with some of its header bytes changed."""
    data = bytearray(encoded(draw(FIELDS)))
    for at, byte in draw(
        st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0, 1, 2, 20, 24, 255])), max_size=3)
    ):
        data[at % len(data)] = byte
    return bytes(data)


@st.composite
def _segmented(draw: st.DrawFn) -> bytes:
    """Return a frame that says it has segments, and a body that may have none."""
    numbers = draw(st.lists(st.integers(0, 20), max_size=4))
    table = b"".join(number.to_bytes(4, "big") for number in numbers)
    body = table + bytes(draw(st.integers(0, 40))) + draw(st.binary(max_size=3))
    frame = bytearray(encoded({"kind": 0, "id": 1, "name": draw(_TEXT), "payload": body}))
    frame[7] |= 0x40
    return bytes(frame)


PIECES = st.one_of(
    st.builds(encoded, FIELDS),
    st.builds(encoded, FIELDS),
    _spoilt(),
    _segmented(),
    st.sampled_from([vector.data for vector in GOOD]),
    st.sampled_from([vector.data for vector in BAD]),
    st.binary(max_size=30),
)

#: A stream, and what takes of it what was lost on the way: (first, last) byte.
STREAMS = st.lists(PIECES, min_size=1, max_size=6).map(b"".join)
CUTS = st.lists(st.integers(1, 40), max_size=12)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut *data* into pieces of *sizes*, over and over; without sizes leave it whole."""
    if not sizes:
        return [data]
    pieces, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
        turn += 1
    return pieces
