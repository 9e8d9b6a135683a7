"""However much a payload stands for, it takes no more memory than twice what is allowed."""

import io
import json
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import lz4.frame
import pytest

from fastrpc.compress import unpack
from fastrpc.errors import CodecError
from fastrpc.wire import DEFAULT_BODY
from tests.compress.samples import COMPRESSORS, MODULES
from tests.compress.test_zstd_frame import framed

ROOT = Path(__file__).parents[2]
CAP = DEFAULT_BODY
ZEROS = bytes(2**20)
NAMES = pytest.mark.parametrize("name", MODULES)


def deflated(mebibytes: int) -> bytes:
    """Return so much of nothing, without having it all at once."""
    packer = zlib.compressobj(1)
    return b"".join([packer.compress(ZEROS) for _ in range(mebibytes)]) + packer.flush()


MAKERS: dict[str, Any] = {
    "zlib": deflated,
    # The largest window there may be: the library keeps that much of what came out.
    "zstd": lambda mebibytes: framed(ZEROS * mebibytes, window_log=23),
    "lz4": lambda mebibytes: lz4.frame.compress(ZEROS * mebibytes),
}


@pytest.fixture(scope="module")
def bombs() -> dict[str, tuple[bytes, bytes]]:
    """For each compressor what is as long as may be, and what is four times as long."""
    found = {}
    for name, make in MAKERS.items():
        longest, longer = make(CAP // 2**20), make(4 * CAP // 2**20)
        assert len(longest) < CAP // 200
        found[name] = (longest, longer)
    return found


def stated(size: int, data: bytes) -> bytes:
    return size.to_bytes(4, "big") + data


@pytest.mark.slow
@NAMES
def test_memory_of_the_process(name: str, bombs: dict[str, tuple[bytes, bytes]]) -> None:
    longest, longer = bombs[name]
    payloads = [
        *[stated(CAP, longer)] * 3,
        *[stated(CAP, longest)] * 3,
        stated(CAP, longest[: len(longest) // 2]),
        stated(CAP + 1, longest),
        stated(2**32 - 1, longer),
        stated(1000, longer),
    ]
    told = measure(name, payloads)
    assert told["outcomes"] == [
        *["CodecError"] * 3, *[str(CAP)] * 3, "CodecError", "TooLarge", "TooLarge", "CodecError",
    ]  # fmt: skip
    assert told["took"] <= 2 * CAP


@pytest.mark.slow
@NAMES
def test_a_refusal_takes_next_to_nothing(name: str, bombs: dict[str, tuple[bytes, bytes]]) -> None:
    _, longer = bombs[name]
    told = measure(name, [stated(2**32 - 1, longer), stated(1000, longer), stated(CAP, longer[:9])])
    assert told["outcomes"] == ["TooLarge", "CodecError", "CodecError"]
    assert told["took"] <= 2**20


def measure(name: str, payloads: list[bytes]) -> Any:
    told = io.BytesIO()
    for payload in payloads:
        told.write(len(payload).to_bytes(4, "big") + payload)
    done = subprocess.run(
        [sys.executable, "-m", "tests.compress.bombs", name, str(CAP)],
        cwd=ROOT, input=told.getvalue(), capture_output=True, check=False, timeout=25,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    return json.loads(done.stdout)


@NAMES
def test_memory_of_python(name: str, bombs: dict[str, tuple[bytes, bytes]]) -> None:
    longest, longer = bombs[name]
    tracemalloc.start()
    try:
        with pytest.raises(CodecError, match=f"longer than the {CAP} bytes it states"):
            unpack(COMPRESSORS[name], stated(CAP, longer), CAP)
        assert unpack(COMPRESSORS[name], stated(CAP, longest), CAP).count(0) == CAP
        assert tracemalloc.get_traced_memory()[1] <= CAP * 5 // 4
    finally:
        tracemalloc.stop()
