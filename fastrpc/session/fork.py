"""Tell clients and servers that they are in a forked child now.

Their sockets are dead there (`transport.fork`), and no event loop runs.

Rules of the room:
  * whoever is told lets go of all that belongs to the parent, and waits for nobody:
    a lock may be held by a thread that exists in the parent only;
  * the set of those to tell is the one state of a process here, because fork hooks
    belong to the process; it holds nobody alive.
"""

import os
import weakref
from typing import Any, Protocol


class Forkable(Protocol):
    """What wants to know that it is in a child now."""

    def after_fork(self) -> None:
        """Let go of what belongs to the parent."""
        ...


_alive: "weakref.WeakSet[Any]" = weakref.WeakSet()


def register(owner: Forkable) -> None:
    """Call `after_fork` of *owner* in every child that this process forks."""
    _alive.add(owner)


def _in_child() -> None:
    for owner in list(_alive):
        owner.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
