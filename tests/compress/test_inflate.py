"""Inflating goes in small steps, and ends for good or for a reason."""

import tracemalloc

import pytest

from fastrpc.compress import Data
from fastrpc.compress.inflate import PIECE, STEP, Step, inflate
from fastrpc.errors import CodecError

#: More pieces than one, and more steps.
LONG = bytes(range(256)) * 2048


class Copy:
    """A library whose compressed bytes are the bytes themselves, ended by their number."""

    def __init__(self, total: int, hold: int = 0) -> None:
        self.left = total
        self.hold = hold  # bytes it keeps back before it gives anything
        self.held = b""
        self.asked: list[tuple[int, int]] = []

    def step(self, piece: Data, most: int) -> tuple[bytes, Data, bool]:
        self.asked.append((len(piece), most))
        taken = bytes(piece[: self.left])
        self.left -= len(taken)
        self.held += taken
        if len(self.held) < self.hold and self.left:
            return b"", piece[len(taken) :], False
        chunk, self.held = self.held[:most], self.held[most:]
        return chunk, piece[len(taken) :], not self.left and not self.held


def play(step: Step, data: Data = LONG, size: int = len(LONG), lag: int = 0) -> bytes:
    return inflate("copy", step, data, size, lag)


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, STEP, STEP + 1, len(LONG)])
def test_what_goes_in_comes_out(size: int) -> None:
    for kind in (bytes, bytearray, memoryview):
        data = kind(LONG[:size] or b"x")  # something has to say that there is nothing
        step = Copy(size).step if size else lambda piece, most: (b"", b"", True)
        back = play(step, data, size)
        assert (type(back), back) == (bytes, LONG[:size])


@pytest.mark.parametrize("hold", [1, PIECE, STEP, 3 * STEP])
def test_a_library_that_holds_bytes_back(hold: int) -> None:
    assert play(Copy(len(LONG), hold).step, lag=hold) == LONG


def test_little_is_given_and_little_is_asked_for() -> None:
    library = Copy(len(LONG))
    play(library.step)
    assert max(given for given, _ in library.asked) == PIECE
    assert max(most for _, most in library.asked) == STEP
    library = Copy(10)
    play(library.step, LONG[:10], 10)
    assert library.asked == [(10, 11)]  # one more, so that one call is enough to see the end


@pytest.mark.parametrize(
    ("total", "size", "data", "text"),
    [
        (10, 9, LONG[:10], "longer than the 9 bytes it states"),
        (len(LONG), len(LONG) - 1, LONG, f"longer than the {len(LONG) - 1} bytes"),
        (10, 11, LONG[:10], "shorter than the 11 bytes it states"),
        (10, 2**31, LONG[:10], "shorter than the 2147483648 bytes"),
        (10, 10, LONG[:9], "cut off"),
        (10, 10, b"", "cut off"),
        (10, 10, LONG[:11], "has bytes behind its end"),
        (PIECE, PIECE, LONG[: PIECE + 1], "has bytes behind its end"),
    ],
)
def test_anything_but_exactly_one_payload_is_refused(
    total: int, size: int, data: bytes, text: str
) -> None:
    with pytest.raises(CodecError, match=rf"^the copy payload .*{text}|^the copy payload {text}"):
        play(Copy(total).step, data, size)


def test_what_a_library_raises_is_told_in_our_words() -> None:
    def step(piece: Data, most: int) -> tuple[bytes, Data, bool]:
        raise RuntimeError("secret")

    with pytest.raises(CodecError, match="^the copy payload is damaged$") as caught:
        play(step)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_bytes_that_give_nothing_are_counted() -> None:
    seen = []

    def step(piece: Data, most: int) -> tuple[bytes, Data, bool]:
        seen.append(len(piece))
        return b"", b"", False

    with pytest.raises(CodecError, match="too many bytes that give nothing"):
        play(step, bytes(2**24), 2**24, lag=3 * PIECE)
    assert seen == [PIECE] * 4


def test_a_library_that_neither_takes_nor_gives_is_no_hang() -> None:
    with pytest.raises(CodecError, match="too many bytes that give nothing"):
        play(lambda piece, most: (b"", piece, False), lag=2**30)


@pytest.mark.parametrize("size", [2**22, 2**22 + 12_345])
def test_memory_at_most_doubles_on_the_way(size: int) -> None:
    chunk = bytes(STEP)
    left = size // 4

    def step(piece: Data, most: int) -> tuple[bytes, Data, bool]:
        nonlocal left
        given = chunk[: min(most, left)]
        left -= len(given)
        return given, b"", not left

    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match="shorter"):
            play(step, b"x", size)
        assert tracemalloc.get_traced_memory()[1] < size // 2 + 4 * STEP
        tracemalloc.reset_peak()
        left = size
        assert len(play(step, b"x", size)) == size
        assert tracemalloc.get_traced_memory()[1] < size * 9 // 8 + 4 * STEP
    finally:
        tracemalloc.stop()
