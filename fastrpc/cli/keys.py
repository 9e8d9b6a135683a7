"""Hear single keys while something is shown, without waiting for them.

Rules of the room:
  * the terminal is given back as it was, whatever happens;
  * where there is no terminal to read from, there are no keys.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator

try:
    import termios
    import tty
except ModuleNotFoundError:  # there are none on Windows
    HAS_KEYS = False
else:
    HAS_KEYS = True

_MOST = 64  # bytes that are read at once


@contextlib.contextmanager
def keys(pressed: Callable[[str], None]) -> Iterator[bool]:
    """Call *pressed* on the running loop for each key; give whether keys can be heard."""
    if not HAS_KEYS or not sys.stdin.isatty():
        yield False
        return
    loop, source = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(source)

    def read() -> None:
        try:
            typed = os.read(source, _MOST)
        except OSError:
            typed = b""
        if not typed:  # the terminal is gone
            loop.remove_reader(source)
        for key in typed.decode("ascii", "ignore"):
            pressed(key)

    tty.setcbreak(source)
    try:
        loop.add_reader(source, read)
        yield True
    finally:
        loop.remove_reader(source)
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(source, termios.TCSADRAIN, before)
