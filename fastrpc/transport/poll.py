"""Wait for one descriptor, without an event loop and whatever its number."""

import select
from collections.abc import Callable
from typing import Any


def watch(sock: Any, *, read: bool = False, write: bool = False) -> Callable[[float], bool]:
    """Return what waits so many seconds for *sock* and tells whether it is ready."""
    if not hasattr(select, "poll"):
        return lambda seconds: any(select.select([sock] * read, [sock] * write, [], seconds))
    poll = select.poll()
    poll.register(sock, select.POLLIN * read | select.POLLOUT * write)
    return lambda seconds: bool(poll.poll(seconds * 1000))
