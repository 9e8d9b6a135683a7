"""Make lists of services once for all who read them, in parts that are no long messages.

A list stands as long as somebody reads it, so it is made once for each state of a service
and shared: who reads holds a place in it and nothing else. Lists of states that are gone
stay for slow readers, as long as all of those lists together are within a limit.

Rules of the room:
  * nobody changes a list, or a part of it, once it is made;
  * what readers hold has a limit: the slowest are told that they are too slow.
"""

import weakref
from collections import deque
from typing import Final, final

from fastrpc.cluster.registrar.contract import PART, News, Refusal
from fastrpc.cluster.registrar.leases import Leases
from fastrpc.errors import RpcError

__all__ = ["Lists", "Snapshot"]

#: What a list, and each entry in it, costs beside texts, about, in bytes.
_LIST: Final = 16 * 2**10
_ENTRY: Final = 128


@final
class Snapshot:
    """All entries of a service at one moment.

    Attributes:
        changed: Revision of the last change that is in it.
        revision: Up to which it tells everything.
        size: Bytes that it costs, about.
    """

    __slots__ = ("__weakref__", "_parts", "changed", "revision", "size")

    def __init__(
        self, epoch: str, revision: int, changed: int, entries: list[tuple[str, bytes]]
    ) -> None:
        parts: list[list[tuple[str, bytes | None, bool]]] = [[]]
        size, self.size = 0, _LIST
        for id, text in entries:
            if size >= PART:
                parts.append([])
                self.size, size = self.size + size, 0
            parts[-1].append((id, text, False))
            size += len(id) + len(text) + _ENTRY
        self.size += size
        last = len(parts) - 1
        self._parts = [
            News(epoch, revision, part, True, at < last) for at, part in enumerate(parts)
        ]
        self.changed = changed
        self.revision = revision

    def part(self, number: int) -> News:
        """Return one part; the last says that it is.

        Raises:
            RpcError: It was let go because too many such lists are being read slowly.
        """
        if not self._parts:
            raise RpcError(Refusal.FULL, "the list was read too slowly: begin anew")
        return self._parts[number]

    def drop(self) -> None:
        """Let go of the entries, whoever reads them."""
        self._parts = []


@final
class Lists:
    """The lists of a registry server's services.

    Args:
        leases: What is listed.
        epoch: Of the server.
    """

    def __init__(self, leases: Leases, epoch: str) -> None:
        self._leases = leases
        self._epoch = epoch
        self._max_bytes = leases.limits.max_bytes
        self._current: dict[str, Snapshot] = {}  # by place; the oldest first
        self._current_bytes = 0
        self._old: deque[weakref.ref[Snapshot]] = deque()  # those that may still be read

    def get(self, place: str) -> Snapshot:
        """Return the list of a service as it is now."""
        changed = self._leases.changed(place)
        found = self._current.get(place)
        if found is not None:
            if found.changed == changed:
                return found
            self._retire(place)
        made = Snapshot(self._epoch, self._leases.revision, changed, self._leases.listing(place))
        if not self._leases.has(place):
            return made  # anybody can ask for any name
        self._current[place] = made
        self._current_bytes += made.size
        while self._current_bytes > self._max_bytes and len(self._current) > 1:
            self._retire(next(iter(self._current)))
        return made

    def _retire(self, place: str) -> None:
        """Keep a list for those who read it, and no longer."""
        old = self._current.pop(place)
        self._current_bytes -= old.size
        self._old.append(weakref.ref(old))
        alive = [each for each in (ref() for ref in self._old) if each is not None]
        size = sum(each.size for each in alive)
        for each in alive:
            if size <= self._max_bytes:
                break
            each.drop()
            size -= each.size
            each.size = 0
        self._old = deque(weakref.ref(each) for each in alive if each.size)
