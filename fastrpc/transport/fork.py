"""Keep a forked child off the parent's sockets.

The kernel copies every descriptor into the child. Two processes that read one
socket would each get half of the frames, and a connection that the parent
closes, or a port that it gives up, would stay open as long as the child lives.

Rules of the room:
  * the child never reads, writes or shuts down what the parent opened, unless the parent
    has opened it to be shared;
  * a descriptor is not closed but taken by a dead socket: whoever closes it later
    in the child closes nothing that matters, and the epoll set, which the parent's
    event loop shares with the child, is left alone;
  * the set of our sockets is the one state of a process here, because fork hooks
    belong to the process; it holds none of them open.
"""

import contextlib
import os
import socket
import weakref

_ours: "weakref.WeakSet[socket.socket]" = weakref.WeakSet()


def own(sock: socket.socket) -> socket.socket:
    """Note that *sock* is ours and of no use to a child; return it."""
    _ours.add(sock)
    return sock


def share(sock: socket.socket) -> socket.socket:
    """Note that *sock* is for the children, too; return it."""
    _ours.discard(sock)
    return sock


def _bury_all() -> None:
    numbers = [number for sock in _ours if (number := sock.fileno()) >= 0]
    _ours.clear()
    # Without a descriptor to spare they stay as they are: nobody uses them here.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as dead:
        for number in numbers:
            os.dup2(dead.fileno(), number, inheritable=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_bury_all)
