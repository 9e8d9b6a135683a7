"""Bytes that a hostile peer could send, and what a codec may make of them."""

import tracemalloc
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from fastrpc.errors import FastRPCError

Read = Callable[[bytes], Any]

#: What reading may take beside the input's own size: tables, frames, the error.
ROOM = 256 * 1024


def damages(data: bytes, *, random: int = 200) -> Iterator[bytes]:
    """Yield *data* cut at every byte, with every byte changed, longer, and shuffled."""
    for at in range(len(data)):
        yield data[:at]
        for bit in (0x01, 0x04, 0x20, 0x80, 0xFF):
            yield data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
    yield data + data
    yield data + b"\x00"
    dice = Random(5)
    for _ in range(random):
        changed = bytearray(data)
        for _ in range(dice.randrange(1, 6)):
            changed[dice.randrange(len(data))] = dice.randrange(256)
        yield bytes(changed)


def outcome(read: Read, data: bytes) -> Any:
    """Return what *read* makes of *data*, or the error of our tree it raises.

    An error of any other kind is raised: that is what must not happen.
    """
    try:
        return read(data)
    except FastRPCError as error:
        assert str(error)
        return error


def survives(read: Read, data: bytes) -> int:
    """Read every damage of *data*; return how many were refused."""
    refused = 0
    for damaged in damages(data):
        refused += isinstance(outcome(read, damaged), FastRPCError)
    return refused


def refusal(read: Read, data: bytes, *, times: int = 4) -> str:
    """Return the text of the error *read* raises, having taken little memory for it."""
    tracemalloc.start()
    try:
        result = outcome(read, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(result, FastRPCError), "it was read"
    assert peak <= times * len(data) + ROOM, f"{peak} bytes for {len(data)}"
    return f"{type(result).__name__}: {result}"
