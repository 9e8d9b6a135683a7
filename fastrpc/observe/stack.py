"""Tell where a handler waits: the frames of a coroutine, or of a thread.

Rules of the room:
  * nothing is run and nothing is held: only names and line numbers leave here;
  * whatever a user's object answers to a question, the answer is some text.
"""

import os
import sys
from collections.abc import Iterator
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fastrpc.session.running import Running

#: Most frames of one call.
MOST_FRAMES: Final = 40

_LIBRARY: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
#: Ours, but the user's all the same: what stands before handlers.
_SHOWN: Final = _LIBRARY + "policy" + os.sep
_PLACES: Final = ("site-packages", "dist-packages", f"python3.{sys.version_info[1]}")
_PARTS: Final = 3  # of a path that is shown, where nothing better is known


def stack_of(running: "Running") -> tuple[str, ...]:
    """Return where a call's handler is, outermost first, as "file:line function".

    The frames of fastrpc itself are left away where there are others.
    """
    frames: list[tuple[str, int, str]] = []
    if running.thread_id:
        frames = list(_thread(running.thread_id))
    elif running.task is not None:
        frames = list(_coroutine(running.task.get_coro()))
        if running.given is not None:
            frames += _coroutine(running.given)
    own = [frame for frame in frames if not _is_ours(frame[0])]
    told = [f"{shortened(file)}:{line} {name}" for file, line, name in own or frames]
    return tuple(told[:MOST_FRAMES])


def shortened(path: str) -> str:
    """Return a path without what is the same for all files of its place."""
    parts = path.replace(os.sep, "/").split("/")
    for place in _PLACES:
        if place in parts[:-1]:
            return "/".join(parts[len(parts) - parts[::-1].index(place) :])
    return "/".join(parts[-_PARTS:])


def _is_ours(file: str) -> bool:
    return file.startswith(_LIBRARY) and not file.startswith(_SHOWN)


def _coroutine(waiting: Any) -> Iterator[tuple[str, int, str]]:
    """Yield the frames of a coroutine and of all that it waits for."""
    for _ in range(4 * MOST_FRAMES):
        if isinstance(waiting, CoroutineType):
            frame, code, waiting = waiting.cr_frame, waiting.cr_code, waiting.cr_await
        elif isinstance(waiting, AsyncGeneratorType):
            frame, code, waiting = waiting.ag_frame, waiting.ag_code, waiting.ag_await
        elif isinstance(waiting, GeneratorType):
            frame, code = waiting.gi_frame, waiting.gi_code
            # Behind a first step that waited: its coroutine is not awaited, but driven.
            driven = frame.f_locals.get("coroutine") if frame and _is_ours(_file(code)) else None
            waiting = driven if waiting.gi_yieldfrom is None else waiting.gi_yieldfrom
        else:
            return
        yield _file(code), frame.f_lineno if frame else code.co_firstlineno, code.co_qualname


def _thread(number: int) -> Iterator[tuple[str, int, str]]:
    """Yield the frames of a thread, outermost first."""
    frame: FrameType | None = sys._current_frames().get(number)
    found = []
    while frame is not None:
        code = frame.f_code
        found.append((_file(code), frame.f_lineno, code.co_qualname))
        frame = frame.f_back
    found.reverse()
    ours = [place for place, entry in enumerate(found) if entry[2] == "_in_thread"]
    yield from found[ours[-1] + 1 if ours else 0 :]


def _file(code: CodeType) -> str:
    return code.co_filename
