"""Make sure that slow peers are noticed, and that all of them together hold only so much.

asyncio of Python 3.12.0 to 3.12.8 and 3.13.0 to 3.13.1 does not look at the size
of its buffer after `writelines` (CVE-2024-12254): `pause_writing` never comes,
and a peer that reads nothing fills our memory.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, final

from fastrpc.errors import ConnectionLost

if TYPE_CHECKING:
    from fastrpc.session.session import Session

#: Bytes that may wait in a transport before the writer is paused.
WRITE_HIGH: Final = 64 * 1024

_FORGETFUL: Final = (3, 12) <= sys.version_info < (3, 12, 9) or (
    (3, 13) <= sys.version_info < (3, 13, 2)
)


def writelines_of(transport: asyncio.Transport) -> Callable[[list[bytes]], Any]:
    """Return what writes several pieces at once and then looks at the high-water mark."""
    if not _FORGETFUL:
        return transport.writelines

    def writelines(pieces: list[bytes]) -> None:
        transport.writelines(pieces)
        transport.set_write_buffer_limits(high=WRITE_HIGH)  # which looks

    return writelines


@final
class Unread:
    """Count what waits for all slow peers together, and cut off whom most waits for.

    A peer is slow while its transport has paused the writer; the others have less
    than the high-water mark waiting, and cost nothing here. Room is made in the
    loop's next turn: a transport may be in the middle of a write before.

    Args:
        most: Bytes that may wait for all of them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._slow: dict[Session, tuple[int, Callable[[], int]]] = {}
        self._total = 0
        self._scheduled = False

    def note(self, session: "Session", measure: Callable[[], int]) -> None:
        """Count what waits for *session*, and make room if it is too much in all.

        Args:
            session: Whose peer is slow.
            measure: Returns how many bytes wait for it.
        """
        self.forget(session)
        size = measure()
        self._slow[session] = size, measure
        self._total += size
        if self._total > self._most and not self._scheduled:
            self._scheduled = True
            session.side.share.call_soon(self._make_room)

    def forget(self, session: "Session") -> None:
        """Count *session* no more: its peer has read, or is gone."""
        self._total -= self._slow.pop(session, _NOTHING)[0]

    def _make_room(self) -> None:
        self._scheduled = False
        # Some of it may have been read since it was counted.
        self._slow = {each: (measure(), measure) for each, (_, measure) in self._slow.items()}
        found = self._total = sum(size for size, _ in self._slow.values())
        cut: list[Session] = []
        for session in sorted(self._slow, key=lambda each: -self._slow[each][0]):
            if self._total <= self._most:
                break
            self.forget(session)
            cut.append(session)
        if not cut:
            return
        text = f"{found} bytes wait for slow peers, over max_unsent_total of {self._most}"
        others = f" it and {len(cut) - 1} more" if len(cut) > 1 else ""
        cut[0].side.complain(logging.WARNING, cut[0].peer, f"closing{others}: {text}")
        for session in cut:
            session.abort(ConnectionLost(f"{session.peer}: cut off: {text}", "maybe"))


_NOTHING: Final = 0, lambda: 0
