"""Check the cutting and making of WebSocket frames, against frames written by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.transport.websocket_frames import (
    BINARY,
    CLOSE,
    COPY_MAX,
    MESSAGE_SENT,
    PING,
    TEXT,
    FrameReader,
    close_frame,
    frame,
    frames,
)
from tests.transport import websocket_raw as raw

Part = tuple[int, bytes, bool]


def reader(*, masked: bool = True, most: int = 2**20) -> FrameReader:
    return FrameReader(masked=masked, max_message=most)


def read(found: FrameReader, most: int = 2**30) -> list[Part]:
    parts = []
    while (part := found.next(most)) is not None:
        parts.append((found.opcode, bytes(part), found.is_last))
    return parts


def whole(parts: list[Part]) -> list[tuple[int, bytes]]:
    """Join the parts of messages."""
    messages, text = [], b""
    for opcode, part, is_last in parts:
        if opcode in (TEXT, BINARY):
            text += part
            if is_last:
                messages.append((opcode, text))
                text = b""
        else:
            messages.append((opcode, part))
    return messages


# RFC 6455, section 5.7: the examples, as they stand there.
HELLO_MASKED = bytes.fromhex("81 85 37 fa 21 3d 7f 9f 4d 51 58")
EXAMPLES = [
    (False, "81 05 48 65 6c 6c 6f", [(TEXT, b"Hello")]),
    (True, HELLO_MASKED.hex(), [(TEXT, b"Hello")]),
    (False, "01 03 48 65 6c 80 02 6c 6f", [(TEXT, b"Hello")]),
    (False, "89 05 48 65 6c 6c 6f", [(PING, b"Hello")]),
    (True, "8a 85 37 fa 21 3d 7f 9f 4d 51 58", [(10, b"Hello")]),
    (False, "82 7e 01 00" + "ab" * 256, [(BINARY, b"\xab" * 256)]),
    (False, "82 7f 00 00 00 00 00 01 00 00" + "cd" * 65_536, [(BINARY, b"\xcd" * 65_536)]),
]


@pytest.mark.parametrize(("masked", "text", "expected"), EXAMPLES)
def test_examples_of_the_standard(
    masked: bool, text: str, expected: list[tuple[int, bytes]]
) -> None:
    found = reader(masked=masked)
    found.feed(bytes.fromhex(text))
    assert whole(read(found)) == expected
    assert not found.waits


MESSAGES = st.lists(
    st.tuples(
        st.sampled_from([TEXT, BINARY]),
        st.lists(st.binary(max_size=300), min_size=1, max_size=4),
        st.booleans(),
    ),
    max_size=5,
)


@given(messages=MESSAGES, masked=st.booleans(), data=st.data())
def test_any_messages_in_any_pieces(
    messages: list[tuple[int, list[bytes], bool]], masked: bool, data: st.DataObject
) -> None:
    stream, expected = b"", []
    for opcode, fragments, pinged in messages:
        for number, fragment in enumerate(fragments):
            mask = data.draw(st.binary(min_size=4, max_size=4)) if masked else None
            last = number == len(fragments) - 1
            stream += raw.put(0 if number else opcode, fragment, fin=last, mask=mask)
            if pinged and not last:
                stream += raw.put(PING, b"?", mask=mask)
                expected.append((PING, b"?"))
        expected.append((opcode, b"".join(fragments)))
    found, parts = reader(masked=masked), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found.feed(stream[:size])
        parts += read(found, data.draw(st.integers(1, 400)))
        stream = stream[size:]
    assert whole(parts) == expected
    assert found.fault is None


def test_what_is_there_of_a_message_comes_at_once() -> None:
    found = reader(most=2**40)
    head = raw.put(BINARY, b"x" * 70_000)
    found.feed(head[:20])
    assert read(found) == [(BINARY, b"x" * 6, False)]
    found.feed(head[20:21])
    assert read(found) == [(BINARY, b"x", False)]
    assert not found.waits, "it keeps nothing"


def test_most_is_kept_to_and_the_rest_waits() -> None:
    found = reader()
    found.feed(raw.put(BINARY, b"abcdefg"))
    assert [part for _, part, _ in read(found, 3)] == [b"abc", b"def", b"g"]


FAULTS = [
    (raw.put(BINARY, b"x", rsv=4), 1002, "reserved bits"),
    (raw.put(PING, b"x", rsv=1), 1002, "reserved bits"),
    (raw.put(BINARY, b"x", mask=None), 1002, "not masked"),
    (raw.put(3, b"x"), 1002, "opcode 3"),
    (raw.put(15, b"x"), 1002, "opcode 15"),
    (raw.put(PING, b"x", fin=False), 1002, "in fragments"),
    (raw.put(PING, b"x" * 126), 1002, "125"),
    (raw.put(0, b"x"), 1002, "continues no message"),
    (raw.put(TEXT, b"x", fin=False) + raw.put(BINARY, b"x"), 1002, "before the last one ended"),
    (raw.put(BINARY, b"x" * 1001), 1009, "1000 bytes"),
    (raw.pieces(BINARY, b"x" * 1001, 400), 1009, "1000 bytes"),
    (raw.put(BINARY, b"", width=8)[:2] + b"\xff" * 8 + b"mask", 1009, "1000 bytes"),
]


@pytest.mark.parametrize(("data", "code", "words"), FAULTS)
@pytest.mark.parametrize("step", [1, 10_000])
def test_faults_end_the_reading(data: bytes, code: int, words: str, step: int) -> None:
    found = reader(most=1000)
    for part in raw.chop(data, step):
        found.feed(part)
        read(found)
    assert found.fault is not None
    assert found.fault[0] == code
    assert words in found.fault[1]
    found.feed(raw.put(BINARY, b"more"))
    assert read(found) == []
    assert not found.waits, "what comes behind a fault is kept"


def test_a_masked_frame_from_a_server_is_a_fault() -> None:
    found = reader(masked=False)
    found.feed(raw.put(BINARY, b"x"))
    assert read(found) == []
    assert found.fault == (1002, "a masked frame from a server")


def test_the_largest_message_is_taken() -> None:
    found = reader(most=1000)
    found.feed(raw.put(BINARY, b"x" * 1000) * 2 + raw.pieces(TEXT, b"y" * 1000, 7))
    assert whole(read(found)) == [(BINARY, b"x" * 1000)] * 2 + [(TEXT, b"y" * 1000)]


def test_a_length_in_a_longer_form_than_needed_is_taken() -> None:
    found = reader()
    found.feed(raw.put(BINARY, b"x", width=2) + raw.put(BINARY, b"y", width=8))
    assert whole(read(found)) == [(BINARY, b"x"), (BINARY, b"y")]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 70_001])
def test_frames_that_are_made_are_read(masked: bool, size: int) -> None:
    payload = bytes(range(256)) * 300
    found = reader(masked=masked)
    found.feed(frame(TEXT, memoryview(payload)[:size], masked))
    assert whole(read(found)) == [(TEXT, payload[:size])]


@pytest.mark.parametrize("masked", [False, True])
def test_large_pieces_go_as_several_messages(masked: bool) -> None:
    body = bytes(range(251)) * 10_000  # 2.5 MB; no multiple of 4
    given = [b"abc", b"", bytearray(body), memoryview(body)[1:-1], b"z"]
    out = frames(BINARY, given, masked)
    found = reader(masked=masked, most=MESSAGE_SENT)
    found.feed(b"".join(out))
    messages = whole(read(found))
    assert b"".join(payload for _, payload in messages) == b"".join(given)
    assert [len(payload) for _, payload in messages[:-1]] == [MESSAGE_SENT] * 4
    if not masked:
        assert all(type(part) is memoryview for part in out if len(part) > COPY_MAX), "copied"
    assert frames(BINARY, [b"", b""], masked) == []


def test_masks_differ() -> None:
    assert len({frame(BINARY, b"", True) for _ in range(20)}) > 15


def test_a_close_has_a_reason_that_fits() -> None:
    found = reader(masked=False)
    found.feed(close_frame(1002, "ä" * 100, False) + close_frame(1005, "", False))
    (first, second) = read(found)
    assert first == (CLOSE, b"\x03\xea" + "ä".encode() * 61, True)
    assert second == (CLOSE, b"", True)
