"""Let calls wait in line for room on the connections.

A server says how many calls it takes at once, and a peer that reads slowly
takes none for a while. Whoever comes later queues behind: while somebody waits,
the lanes are marked as crowded and the fast way is closed.

Rules of the room:
  * first come, first served, and a place that is given up goes to the next;
  * a deadline ends the waiting of one, not the place of others.
"""

import asyncio
import time
from collections import deque
from typing import Any, final

from fastrpc.frame import Lane


@final
class RoomQueue:
    """Calls that wait for a place in one of *lanes*."""

    def __init__(self, lanes: list[Lane]) -> None:
        self._lanes = lanes
        self._queue: deque[asyncio.Future[bool]] = deque()
        self._woken = 0  # have been told of a place and not yet looked

    def __len__(self) -> int:
        """Return how many calls wait."""
        return len(self._queue) + self._woken

    async def take(self, deadline: float) -> tuple[Lane | None, bool]:
        """Wait for a lane with room.

        Returns the lane, or None if there is no connection any more, and False
        if the deadline came first.
        """
        lane = None if len(self) else self._free()
        if lane is not None:
            return lane, True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._queue.append(waiter)
        self._mark()
        try:
            while await wait_until(loop, waiter, deadline):
                self._woken -= 1
                lane = self._free()
                if lane is not None or not self._lanes:
                    return lane, True
                waiter = loop.create_future()
                self._queue.appendleft(waiter)
            return None, False
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result():
                self._woken -= 1  # told of a place, but gone: the next may have it
                self.on_room()
            raise
        finally:
            if waiter in self._queue:
                self._queue.remove(waiter)
            self._mark()

    def on_room(self) -> None:
        """Wake as many as there are places now."""
        places = sum(lane.peer_calls - len(lane.table) for lane in self._lanes if lane.ready)
        if not self._lanes:
            places = len(self)  # let them see that the connection is gone
        for _ in range(places - self._woken):
            if not self._wake_one():
                break
        self._mark()

    def _wake_one(self) -> bool:
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                self._woken += 1
                waiter.set_result(True)
                return True
        return False

    def _free(self) -> Lane | None:
        room = [lane for lane in self._lanes if lane.ready and len(lane.table) < lane.peer_calls]
        return min(room, key=lambda lane: len(lane.table)) if room else None

    def _mark(self) -> None:
        crowded = bool(len(self))
        for lane in self._lanes:
            lane.crowded = crowded


async def wait_until(
    loop: asyncio.AbstractEventLoop, waiter: "asyncio.Future[Any]", deadline: float
) -> bool:
    """Wait for *waiter*; return False if *deadline* (monotonic, 0 for never) came first."""
    if not deadline:
        await waiter
        return True
    timer = loop.call_later(max(deadline - time.monotonic(), 0.0), _expire, waiter)
    try:
        return await waiter is not False
    finally:
        timer.cancel()


def _expire(waiter: "asyncio.Future[Any]") -> None:
    if not waiter.done():
        waiter.set_result(False)
