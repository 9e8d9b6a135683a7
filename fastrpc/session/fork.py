"""Keep a forked child off the parent's sockets.

The kernel copies every descriptor into the child. Two processes that read one
socket would each get half of the frames, and a connection that the parent
closes would stay open as long as the child lives.

Rules of the room:
  * the child never reads, writes or shuts down what the parent opened;
  * the set of objects to tell is the one state of a process here, because fork
    hooks belong to the process; it holds nobody alive.
"""

import os
import socket
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


def bury(sock: Any) -> None:
    """Put a dead socket in the place of *sock*'s descriptor."""
    if sock is None or (number := sock.fileno()) < 0:
        return
    with socket.socket(socket.AF_UNIX) as dead:
        os.dup2(dead.fileno(), number, inheritable=False)


def _in_child() -> None:
    for owner in list(_alive):
        owner.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
