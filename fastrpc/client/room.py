"""Let calls wait: for a connection, and in line for room on one.

A server says how many calls it takes at once, and a peer that reads slowly
takes none for a while. Whoever comes later queues behind: while somebody waits,
the lanes are marked as crowded and the fast way is closed.

Rules of the room:
  * first come, first served, and a place that is given up goes to the next;
  * a deadline ends the waiting of one, not the place of others.
"""

import asyncio
import time
from collections import OrderedDict
from typing import final

from fastrpc.frame import Lane

Waiter = asyncio.Future[bool]  # True: look again; False: the time is up


@final
class News:
    """Wakes those who wait for something to change."""

    def __init__(self) -> None:
        self._waiters: dict[Waiter, None] = {}

    def tell(self) -> None:
        """Wake all who wait."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(True)

    async def wait(self, deadline: float) -> bool:
        """Wait until the next `tell`; False if *deadline* came first.

        Who asks again and again is told of the deadline, too, however often there is news.
        """
        if deadline and time.monotonic() >= deadline:
            return False
        loop = asyncio.get_running_loop()
        waiter: Waiter = loop.create_future()
        self._waiters[waiter] = None
        try:
            return await _wait_until(loop, waiter, deadline)
        finally:
            del self._waiters[waiter]


@final
class RoomQueue:
    """Calls that wait for a place in one of *lanes*, a list that the client keeps."""

    def __init__(self, lanes: list[Lane]) -> None:
        self._lanes = lanes
        self._queue: OrderedDict[Waiter, None] = OrderedDict()
        self._apart: dict[Waiter, list[Lane]] = {}
        self._woken = 0  # have been told of a place and not yet looked

    def __len__(self) -> int:
        """Return how many calls wait."""
        return len(self._queue) + self._woken

    async def take(self, deadline: float) -> tuple[Lane | None, bool]:
        """Wait for a lane with room, and send a call on it before the next await.

        Returns the lane, or None if there is no connection any more, and False
        if the deadline came first. Whoever does not use the lane calls
        `on_room`, so that the next in line may.
        """
        lane = None if len(self) else self._free()
        if lane is not None:
            return lane, True
        loop = asyncio.get_running_loop()
        waiter: Waiter = loop.create_future()
        self._queue[waiter] = None
        self._mark()
        try:
            while await _wait_until(loop, waiter, deadline):
                self._woken -= 1
                lane = self._free()
                if lane is not None or not self._lanes:
                    return lane, True
                waiter = loop.create_future()
                self._queue[waiter] = None
                self._queue.move_to_end(waiter, last=False)
            return None, False
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result():
                self._woken -= 1  # told of a place, but gone: the next may have it
                self.on_room()
            raise
        finally:
            self._queue.pop(waiter, None)
            self._mark()

    async def wait_for(self, lanes: list[Lane], deadline: float) -> bool:
        """Wait until there may be room on one of *lanes*; False if *deadline* came first.

        For calls that can go nowhere else; they don't stand in line.

        Args:
            lanes: Need not be the queue's own; contents may change.
            deadline: On the monotonic clock, 0 for none.
        """
        loop = asyncio.get_running_loop()
        waiter: Waiter = loop.create_future()
        self._apart[waiter] = lanes
        self._mark()
        try:
            return await _wait_until(loop, waiter, deadline)
        finally:
            del self._apart[waiter]
            for lane in lanes:
                lane.crowded = False
            self._mark()

    def on_room(self) -> None:
        """Wake as many as there are places now."""
        for waiter, wanted in self._apart.items():
            if not waiter.done() and (not wanted or any(map(_has_room, wanted))):
                waiter.set_result(True)
        places = sum(lane.peer_calls - len(lane.table) for lane in self._lanes if lane.ready)
        if not self._lanes:
            places = len(self)  # let them see that the connection is gone
        for _ in range(places - self._woken):
            if not self._wake_one():
                break
        self._mark()

    def _wake_one(self) -> bool:
        while self._queue:
            waiter, _ = self._queue.popitem(last=False)
            if not waiter.done():
                self._woken += 1
                waiter.set_result(True)
                return True
        return False

    def _free(self) -> Lane | None:
        room = [lane for lane in self._lanes if _has_room(lane)]
        return min(room, key=lambda lane: len(lane.table)) if room else None

    def _mark(self) -> None:
        crowded = bool(len(self))
        for lane in self._lanes:
            lane.crowded = crowded
        for wanted in self._apart.values():
            for lane in wanted:
                lane.crowded = True  # else nobody would say that there is room


def _has_room(lane: Lane) -> bool:
    return lane.ready and len(lane.table) < lane.peer_calls


async def _wait_until(loop: asyncio.AbstractEventLoop, waiter: Waiter, deadline: float) -> bool:
    """Return the result of *waiter*; False when *deadline* (monotonic, 0 for never) comes."""
    if not deadline:
        return await waiter
    # uvloop counts milliseconds: without the one more it could be early.
    timer = loop.call_later(max(deadline - time.monotonic(), 0.0) + 0.001, _expire, waiter)
    try:
        return await waiter
    finally:
        timer.cancel()


def _expire(waiter: Waiter) -> None:
    if not waiter.done():
        waiter.set_result(False)
