"""The golden vectors: written byte for byte, read back, cut anywhere, refused alike."""

from types import SimpleNamespace
from typing import Any

import pytest

from fastrpc import wire
from fastrpc.errors import FrameError
from tests.frame.golden import BAD, GOOD, SEED, SEED_MAGIC, Vector
from tests.frame.twins import FIELDS

WRITTEN = [vector for vector in GOOD if vector.name != "unknown_ext"]
STREAM = b"".join(vector.data for vector in GOOD)


def told(frame: Any) -> dict[str, Any]:
    return {field: getattr(frame, field) for field in FIELDS}


def expected(vector: Vector) -> dict[str, Any]:
    blank = {"kind": 0, "bits": 0, "arg": 0, "time": 0, "name": b"", "metadata": b"", "oversize": 0}
    fields = blank | vector.fields
    # A wire.Kind number and a flag are what they are, not what they are called.
    return fields


def fed(decoder: Any, pieces: list[bytes]) -> list[dict[str, Any]]:
    return [told(frame) for piece in pieces for frame in decoder.feed(piece)]


def encoded(twin: SimpleNamespace, fields: dict[str, Any], **more: Any) -> bytes:
    fields = dict(fields)
    kind, id = fields.pop("kind", 0), fields.pop("id")
    if fields["buffers"]:  # the encoder sets the bit by itself
        fields["bits"] &= ~wire.BIT_SEG
    data: bytes = twin.encode_frame(kind, id, **fields, **more)
    return data


def test_all_vectors_are_there() -> None:
    assert (len(GOOD), len(BAD), len(SEED)) == (28, 13, 4)


@pytest.mark.parametrize("vector", WRITTEN, ids=str)
def test_good_ones_are_written_byte_for_byte(twin: SimpleNamespace, vector: Vector) -> None:
    assert encoded(twin, vector.fields) == vector.data


def test_a_longer_header_is_written_with_zeros(twin: SimpleNamespace) -> None:
    (vector,) = [vector for vector in GOOD if vector.name == "unknown_ext"]
    assert encoded(twin, vector.fields, header_size=36) == vector.data.replace(
        b"\xde\xad\xbe\xef", bytes(4)
    )


@pytest.mark.parametrize("vector", GOOD, ids=str)
def test_good_ones_are_read(twin: SimpleNamespace, vector: Vector) -> None:
    decoder = twin.FrameDecoder()
    assert fed(decoder, [vector.data]) == [expected(vector)]
    assert not decoder.waiting


@pytest.mark.parametrize("vector", GOOD, ids=str)
def test_good_ones_are_read_cut_at_every_byte(twin: SimpleNamespace, vector: Vector) -> None:
    for cut in range(1, len(vector.data)):
        decoder = twin.FrameDecoder()
        assert decoder.feed(vector.data[:cut]) == []
        assert decoder.waiting
        assert fed(decoder, [vector.data[cut:]]) == [expected(vector)], cut
        assert not decoder.waiting


@pytest.mark.parametrize("vector", GOOD, ids=str)
def test_good_ones_are_read_one_byte_at_a_time(twin: SimpleNamespace, vector: Vector) -> None:
    decoder = twin.FrameDecoder()
    pieces = [vector.data[at : at + 1] for at in range(len(vector.data))]
    assert fed(decoder, pieces) == [expected(vector)]


def test_all_of_them_in_one_read(twin: SimpleNamespace) -> None:
    assert fed(twin.FrameDecoder(), [STREAM]) == [expected(vector) for vector in GOOD]


def test_all_of_them_behind_one_another_cut_at_every_byte(twin: SimpleNamespace) -> None:
    want = [expected(vector) for vector in GOOD]
    for cut in range(1, len(STREAM)):
        assert fed(twin.FrameDecoder(), [STREAM[:cut], STREAM[cut:]]) == want, cut


def test_all_of_them_one_byte_at_a_time(twin: SimpleNamespace) -> None:
    pieces = [STREAM[at : at + 1] for at in range(len(STREAM))]
    assert fed(twin.FrameDecoder(), pieces) == [expected(vector) for vector in GOOD]


@pytest.mark.parametrize("vector", BAD, ids=str)
def test_bad_ones_are_refused(twin: SimpleNamespace, vector: Vector) -> None:
    decoder = twin.FrameDecoder()
    with pytest.raises(FrameError) as caught:
        decoder.feed(vector.data)
    assert caught.value.at == vector.at
    assert caught.value.status == wire.StatusCode.PROTOCOL
    with pytest.raises(FrameError) as again:
        decoder.feed(b"")
    assert again.value is caught.value


@pytest.mark.parametrize("vector", BAD, ids=str)
def test_bad_ones_are_refused_one_byte_at_a_time(twin: SimpleNamespace, vector: Vector) -> None:
    decoder = twin.FrameDecoder()
    with pytest.raises(FrameError) as caught:
        for at in range(len(vector.data)):
            assert decoder.feed(vector.data[at : at + 1]) == []
    assert caught.value.at == vector.at


@pytest.mark.parametrize("vector", BAD, ids=str)
def test_frames_before_a_bad_one_come_first(twin: SimpleNamespace, vector: Vector) -> None:
    decoder = twin.FrameDecoder()
    good = [GOOD[0], GOOD[3]]
    data = b"".join(one.data for one in good) + vector.data + GOOD[5].data
    assert fed(decoder, [data]) == [expected(one) for one in good]
    with pytest.raises(FrameError) as caught:
        decoder.feed(b"")
    assert caught.value.at == vector.at


def test_a_stranger_is_told_by_its_first_bytes(twin: SimpleNamespace) -> None:
    (http,) = [vector for vector in BAD if vector.name == "bad_http"]
    with pytest.raises(
        FrameError, match=r"not a frame: it starts with b'GET / HTTP/1\.1"
    ) as caught:
        twin.FrameDecoder().feed(http.data)
    assert caught.value.seen == http.data[:64]


@pytest.mark.parametrize("vector", SEED, ids=str)
def test_headers_that_craft_atom_wrote_are_read(twin: SimpleNamespace, vector: Vector) -> None:
    want = expected(vector)
    for pieces in ([vector.data], [bytes([byte]) for byte in vector.data]):
        (frame,) = fed(twin.FrameDecoder(magic=SEED_MAGIC), pieces)
        assert frame == want
    with pytest.raises(FrameError, match="not a frame"):
        twin.FrameDecoder().feed(vector.data)


@pytest.mark.parametrize("vector", SEED, ids=str)
def test_headers_that_craft_atom_wrote_are_written(twin: SimpleNamespace, vector: Vector) -> None:
    data = encoded(twin, vector.fields)
    assert SEED_MAGIC.to_bytes(2, "big") + data[2:] == vector.data
