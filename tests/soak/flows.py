"""Streams under chaos: every item says where it belongs, and both receivers look.

Checked, in the soak's words:

* S1 every stream ends, whole or with an error of the public tree;
* S2 items are those of that very stream, in order, none missing, none twice;
* S3 an end that is no error comes after the last item, at either side.
"""

import asyncio
import collections
import mmap
import random
import struct
import time
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import fastrpc

LEFT = 0.1  # so many are left half-way
MOST = 1000  # items of one stream: a reader takes what has come in one go, and others wait

_COUNTS = struct.Struct("=QQQ")
COUNTS_SIZE = _COUNTS.size


def stamp(client: int, stream: int, seq: int) -> tuple[int, int, int, int]:
    """Return the item with that number of that stream of that client."""
    return client, stream, seq, zlib.crc32(b"%d/%d/%d" % (client, stream, seq))


class Counts:
    """What a server process has seen, in memory that outlives it: items, whole streams, wrongs."""

    def __init__(self, memory: mmap.mmap | bytes) -> None:
        self._memory: Any = memory
        self.items, self.whole, self.wrong = _COUNTS.unpack_from(memory)

    def add(self, items: int, whole: int = 0, wrong: int = 0) -> None:
        self.items += items
        self.whole += whole
        self.wrong += wrong
        _COUNTS.pack_into(self._memory, 0, self.items, self.whole, self.wrong)


class Flows:
    """The serving side."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    async def down(self, client: int, stream: int, count: int) -> AsyncIterator[tuple[int, ...]]:
        for seq in range(count):
            yield stamp(client, stream, seq)

    async def up(
        self, client: int, stream: int, count: int, items: AsyncIterator[tuple[int, ...]]
    ) -> int:
        seq = 0
        async for item in self._checked(client, stream, count, items):
            seq = item[2] + 1
        return seq

    async def both(
        self, client: int, stream: int, count: int, items: AsyncIterator[tuple[int, ...]]
    ) -> AsyncIterator[tuple[int, ...]]:
        async for item in self._checked(client, stream, count, items):
            yield item

    async def _checked(
        self, client: int, stream: int, count: int, items: AsyncIterator[tuple[int, ...]]
    ) -> AsyncIterator[tuple[int, ...]]:
        seq = told = 0
        try:
            async for item in items:
                if tuple(item) != stamp(client, stream, seq):
                    self._counts.add(0, wrong=1)
                seq += 1
                if seq - told >= 64:  # a kill loses some of the count, nothing else
                    self._counts.add(seq - told)
                    told = seq
                yield item
            self._counts.add(0, whole=1, wrong=seq != count)
        finally:
            self._counts.add(seq - told)


@dataclass
class Streams:
    """What became of the streams, at the side that opens them."""

    blame: Callable[[str], None]
    note_late: Callable[[str, float], None]
    begun: int = 0
    whole: int = 0
    left: int = 0
    received: int = 0
    errors: collections.Counter[str] = field(default_factory=collections.Counter)

    @property
    def ended(self) -> int:
        return self.whole + self.left + sum(self.errors.values())

    def judge(self, counts: list[Counts]) -> list[str]:
        """Say how it went; what must not be is blamed."""
        taken, wrong = sum(each.items for each in counts), sum(each.wrong for each in counts)
        if wrong:
            self.blame(f"S2 servers were given {wrong} wrong items or ends")
        if self.ended != self.begun:
            self.blame(f"S1 {self.begun - self.ended} streams have no end")
        return [
            f"{self.begun:,} streams: whole {self.whole:,}, left half-way {self.left:,},"
            f" ended by errors {sum(self.errors.values()):,}",
            f"{self.received + taken:,} items: {self.received:,} came to clients,"
            f" {taken:,} to servers; lost, twice or astray: {wrong} at servers",
            *(f"  {count:,} x {name} (stream)" for name, count in self.errors.most_common()),
        ]


class _WrongItemError(Exception):
    pass


async def streamer(
    number: int, client: fastrpc.Client, streams: Streams, rng: random.Random, patience: float,
    stop: asyncio.Event,
) -> None:  # fmt: skip
    """Open one stream after the other until told to stop."""
    stub: Any = client.stub(Flows)
    while not stop.is_set():
        streams.begun += 1
        stream, count = streams.begun, rng.randrange(1, MOST)
        leave = rng.randrange(count) if rng.random() < LEFT else -1
        started = time.monotonic()
        try:
            dice = rng.random()
            if dice < 0.25 and leave < 0:
                if await stub.up(number, stream, count, _source(number, stream, count)) != count:
                    raise _WrongItemError("a server said that another count came")
            else:
                coming = (
                    stub.both(number, stream, count, _source(number, stream, count))
                    if dice < 0.5
                    else stub.down(number, stream, count)
                )
                if await _take(number, stream, count, leave, coming, streams) == leave:
                    coming.cancel()
                    streams.left += 1
                    continue
        except fastrpc.FastRPCError as exc:
            streams.errors[f"{type(exc).__name__} ran={exc.ran}"] += 1
            late = time.monotonic() - started - patience
            streams.note_late(f"stream {stream}: {type(exc).__name__}", late)
            if isinstance(exc, fastrpc.TransportError):
                await asyncio.sleep(0.02)  # don't hammer a server that is down
        except _WrongItemError as exc:
            streams.errors["wrong"] += 1
            streams.blame(f"S2 stream {stream}: {exc}")
        except Exception as exc:
            streams.errors["unexpected"] += 1
            streams.blame(f"I5 stream {stream}: {exc!r}")
        else:
            streams.whole += 1


async def _take(
    number: int, stream: int, count: int, leave: int, coming: Any, streams: Streams
) -> int:
    """Take what comes and return how much; at *leave* items no more."""
    seq = 0
    try:
        async for item in coming:
            if tuple(item) != stamp(number, stream, seq):
                raise _WrongItemError(f"item {seq} of {number} is {item}")
            seq += 1
            if seq == leave:
                return seq
    finally:
        streams.received += seq
    if seq != count:
        raise _WrongItemError(f"S3 ended without a word after {seq} of {count}")
    return -2


async def _source(number: int, stream: int, count: int) -> AsyncIterator[tuple[int, ...]]:
    for seq in range(count):
        yield stamp(number, stream, seq)
