"""Check that a compressor behaves as the rest of the house relies on.

One suite for every compressor: ours, and anybody's own.

    def test_my_compressor():
        check_compressor(MyCompressor())

Rules of the room:
  * a check uses what the `Compressor` protocol has, nothing else;
  * memory is what Python's allocators were asked for; what a C library takes for
    itself is not seen.
"""

import random
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from fastrpc.compress import Compressor, CompressorRegistry, pack, unpack
from fastrpc.errors import ConfigError, FastRPCError

_MIB: Final = 2**20
_BOMB: Final = 8 * _MIB
#: What a small payload may take whatever it promises: a library's buffers.
_SLACK: Final = _MIB

_TEXT: Final = b'{"name": "ada", "tags": ["red", "green"]}, ' * 40
_NOISE: Final = random.Random(1).randbytes

#: Bytes that must come back: none, few, many, alike and not.
SAMPLES: Final[Sequence[bytes]] = (
    b"",
    b"\x00",
    bytes(range(256)),
    _TEXT,
    _TEXT * 100,
    bytes(300_000),
    _NOISE(1000),
    _NOISE(150_000),
)


def _expect(ok: bool, text: str) -> None:
    if not ok:
        raise AssertionError(text)


def _expect_raise(work: Callable[[], object], text: str) -> None:
    try:
        work()
    except Exception:  # any will do: callers catch them all
        return
    raise AssertionError(text)


def _identity(compressor: Compressor, samples: Sequence[bytes]) -> None:
    """It has a name that HELLO can carry."""
    try:
        CompressorRegistry([compressor])
    except ConfigError as error:
        raise AssertionError(str(error)) from None


def _round_trip(compressor: Compressor, samples: Sequence[bytes]) -> None:
    """What is compressed comes back, in any order."""
    packed = [compressor.compress(sample) for sample in samples]
    for sample, data in zip(reversed(samples), reversed(packed), strict=True):
        size = len(sample)
        _expect(type(data) is bytes, f"compress() gave {type(data).__name__}, not bytes")
        back = compressor.decompress(data, size)
        _expect(type(back) is bytes, f"decompress() gave {type(back).__name__}, not bytes")
        _expect(back == sample, f"{size} bytes came back as {len(back)} others")


def _smaller(compressor: Compressor, samples: Sequence[bytes]) -> None:
    """What is alike becomes smaller, and what is not hardly larger."""
    text, noise = compressor.compress(_TEXT), compressor.compress(_NOISE(10_000))
    _expect(len(text) < len(_TEXT) // 2, f"{len(_TEXT)} bytes of text became {len(text)}")
    _expect(len(noise) < 12_000, f"10000 bytes of noise became {len(noise)}")
    packed = pack(compressor, _TEXT)
    _expect(packed is not None and unpack(compressor, packed, len(_TEXT)) == _TEXT, "not unpacked")


def _exact_size(compressor: Compressor, samples: Sequence[bytes]) -> None:
    """Any other size than the true one is refused."""
    for sample in samples:
        data, size = compressor.compress(sample), len(sample)
        for other in {size - 1, size + 1, 0, size // 2, 2 * size + 1} - {size, -1}:
            _expect_raise(
                partial(compressor.decompress, data, other),
                f"{size} bytes were taken for {other}",
            )


def _end(compressor: Compressor, samples: Sequence[bytes]) -> None:
    """It ends where the bytes end: nothing may be missing, nothing may follow."""
    for sample in samples:
        data, size = compressor.compress(sample), len(sample)
        for more in (b"\x00", data, compressor.compress(b"")):
            _expect_raise(
                partial(compressor.decompress, data + more, size),
                f"{len(more)} bytes behind the end were not refused",
            )
        for cut in {0, 1, len(data) // 2, len(data) - 1}:
            _expect_raise(
                partial(compressor.decompress, data[:cut], size),
                f"the first {cut} of {len(data)} bytes were taken for all",
            )


def _damaged(compressor: Compressor, samples: Sequence[bytes]) -> None:
    """Bytes cut short or changed raise, or give the right number of others."""
    packed = pack(compressor, _TEXT)
    assert packed is not None
    for damaged in _damages(packed):
        try:
            back = unpack(compressor, damaged, 2 * len(_TEXT))
        except FastRPCError:
            continue
        _expect(damaged[:4] == packed[:4], f"{len(_TEXT)} bytes were taken for {len(back)}")
    _round_trip(compressor, samples)


def _damages(data: bytes) -> Iterable[bytes]:
    for at in range(len(data)):
        yield data[:at]
        for bit in (0x01, 0x10, 0x80):
            yield data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]


def _bomb(compressor: Compressor, samples: Sequence[bytes]) -> None:
    """Memory is bounded by the size asked for, however much the bytes stand for."""
    data = compressor.compress(bytes(_BOMB))
    peak = _peak(partial(_expect_raise, partial(compressor.decompress, data, 1000), "not refused"))
    most = _SLACK + 2 * len(data)
    _expect(peak <= most, f"{_BOMB} bytes took memory of {peak} for the 1000 that were asked for")


def _promise(compressor: Compressor, samples: Sequence[bytes]) -> None:
    """Memory grows with what comes out, not with the size that was stated."""
    data = compressor.compress(_TEXT)
    work = partial(compressor.decompress, data, 64 * _MIB)
    peak = _peak(partial(_expect_raise, work, f"{len(_TEXT)} bytes were taken for 64 MiB"))
    _expect(peak <= _SLACK, f"a promise of 64 MiB took memory of {peak} for {len(_TEXT)} bytes")


def _peak(work: Callable[[], object]) -> int:
    """Return how much more memory there was during *work* than before."""
    traced = tracemalloc.is_tracing()
    if not traced:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        if not traced:
            tracemalloc.stop()


def _view(data: bytes) -> memoryview:
    return memoryview(bytearray(data))


_KINDS: Final[Sequence[Callable[[bytes], bytearray | memoryview]]] = (bytearray, _view)


def _buffers(compressor: Compressor, samples: Sequence[bytes]) -> None:
    """It reads from any buffer, and what it gives doesn't change with it."""
    for sample in samples:
        data = compressor.compress(sample)
        for kind in _KINDS:
            _expect(
                compressor.compress(kind(sample)) == data, "a buffer is not compressed as bytes"
            )
            buffer = kind(data)
            back = compressor.decompress(buffer, len(sample))
            buffer[:] = bytes(len(data))
            _expect(back == sample, f"{len(sample)} bytes changed with the buffer")


def _threads(compressor: Compressor, samples: Sequence[bytes]) -> None:
    """One compressor serves several threads."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(3):
                _round_trip(compressor, samples)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _expect(not failures, f"in a thread: {failures[:1]}")


_CHECKS: Final[dict[str, Callable[[Compressor, Sequence[bytes]], None]]] = {
    "identity": _identity,
    "round trip": _round_trip,
    "smaller": _smaller,
    "exact size": _exact_size,
    "end": _end,
    "damaged": _damaged,
    "bomb": _bomb,
    "promise": _promise,
    "buffers": _buffers,
    "threads": _threads,
}

#: Names of the checks, each to be run alone with `only`.
COMPRESSOR_CHECKS: Final = tuple(_CHECKS)


def check_compressor(
    compressor: Compressor, samples: Sequence[bytes] = SAMPLES, *, only: str = ""
) -> None:
    """Run the checks on *compressor*.

    Args:
        compressor: What to check; it is used, never changed.
        samples: Bytes that must come back equal.
        only: One name of `COMPRESSOR_CHECKS`; all of them by default.

    Raises:
        AssertionError: A check failed; the message names it and says how.
    """
    for name in [only] if only else COMPRESSOR_CHECKS:
        try:
            _CHECKS[name](compressor, samples)
        except AssertionError as error:
            text = f"{name} of compressor {compressor.name!r}: {error}"
            raise AssertionError(text) from error
        except Exception as error:
            kind = type(error).__name__
            text = f"{name} of compressor {compressor.name!r}: {kind}: {error}"
            raise AssertionError(text) from error
