"""Both halves of streams on a rig's lane, and coroutines that are run by hand."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from fastrpc.errors import CodecError
from tests.frame.rig import PURE, Rig, Waiter, pack
from tests.frame.twins import shown

unpack = msgspec.msgpack.decode
HEAD = 20  # bytes of an item's header


class Refused(Exception):
    """What `explain` makes of an item that can't be read."""


class Receiver:
    """An inlet on a rig's lane; what it asks of its owner is written down.

    Args:
        rig: With the lane.
        id: Of the stream.
        own: Whether it is one of ours.
        window: Credit of the peer.
        serializer: How items are usually encoded.
    """

    def __init__(
        self, rig: Rig, *, id: int = 1, own: bool = True, window: int = 1000, serializer: int = 1
    ) -> None:
        self.rig, self.id, self.own = rig, id, own
        self.odd: list[tuple[int, Any]] = []
        self.explained: list[tuple[int, Any]] = []
        self.decode: Callable[[bytes], Any] = unpack
        self.inlet = rig.twin.Inlet(
            rig.lane, id, own, window, serializer, lambda data: self.decode(data),
            self._unpack, self._explain,
        )  # fmt: skip

    def _unpack(self, serializer: int, item: Any) -> Any:
        self.odd.append((serializer, shown(item)))
        if serializer == 9:
            raise CodecError("no such serializer")
        return ("odd", len(self.odd))

    def _explain(self, number: int, exc: Exception) -> Exception:
        self.explained.append((number, shown(exc)))
        return Refused(f"item {number}: {type(exc).__name__}")

    def push(self, value: Any = 0, *, cost: int = 0, last: bool = False) -> None:
        """Let a plain item come, straight into the inlet."""
        body = pack(value)
        self.inlet.push(1, body, cost or HEAD + len(body), last)

    def arrive(self, *values: Any, last: bool = False) -> None:
        """Let items come in one read of the lane."""
        self.rig.lane.feed(b"".join(self.item(value) for value in values))
        if last:
            self.rig.lane.feed(PURE.encode_frame(3, self.id, reply=self.own, bits=0x10))

    def item(self, value: Any, **fields: Any) -> bytes:
        """Return an item of the peer's as a frame."""
        given = {"serializer": 1, "payload": pack(value)} | fields
        data: bytes = PURE.encode_frame(3, self.id, reply=self.own, **given)
        return data

    def reader(self, keep: Any = None) -> Any:
        return self.rig.twin.ItemReader(self.inlet, keep)

    def granted(self) -> list[int]:
        """Return the credits that were sent since the last time."""
        self.rig.turn()
        frames = self.rig.sent()
        assert {(frame.kind, frame.id, frame.reply) for frame in frames} <= {
            (5, self.id, not self.own)
        }
        return [frame.arg for frame in frames]


class Sender:
    """An outlet on a rig's lane.

    Args:
        rig: With the lane.
        id: Of the stream.
        own: Whether it is one of ours.
        credit: What the peer gives at the start.
    """

    def __init__(self, rig: Rig, *, id: int = 1, own: bool = True, credit: int = 1000) -> None:
        self.rig, self.id = rig, id
        self.outlet = rig.twin.Outlet(rig.lane, id, own, credit, 1)

    def gone(self) -> list[Any]:
        """Return the items that have left since the last time."""
        self.rig.turn()
        frames = self.rig.sent()
        assert {(frame.kind, frame.id) for frame in frames} <= {(3, self.id)}
        return [
            unpack(frame.payload) if frame.serializer == 1 else frame.payload for frame in frames
        ]


class Job:
    """A coroutine that a test runs by hand, as a task would be: step by step.

    Attributes:
        told: What came of it, or ().
        waits: What it waits for, or None if it only gave up its turn.
    """

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._coro = _awaiting(awaitable)
        self._is_cancelled = False
        self.waits: Waiter | None = None
        self.told: Any = ()

    def __repr__(self) -> str:
        return f"<Job {self.told or self.waits}>"

    @property
    def can_go(self) -> bool:
        """Whether a step would bring it further."""
        return not self.told and (self._is_cancelled or self.waits is None or self.waits.done())

    def cancel(self) -> None:
        """Do as a task does: cancel what it waits for, and raise at the next step."""
        self._is_cancelled = True
        if self.waits is not None:
            self.waits.cancel()

    def step(self) -> "Job":
        """Run it up to its next wait."""
        cancelled, self._is_cancelled = self._is_cancelled, False
        if self.waits is not None and self.waits.told == [("cancelled",)]:
            cancelled = True
        try:
            if cancelled:
                self.waits = self._coro.throw(asyncio.CancelledError())
            else:
                self.waits = self._coro.send(None)
        except StopIteration as stop:
            self.told = ("returned", shown(stop.value))
        except BaseException as exc:
            self.told = ("raised", *shown(exc)[:2])
        return self

    def close(self) -> None:
        self._coro.close()
        self.told = self.told or ("closed",)


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def settle(*jobs: Job) -> None:
    """Run *jobs*, each a step in turn, until none can go on."""
    while any(job.can_go for job in jobs):
        for job in jobs:
            if job.can_go:
                job.step()
