"""Notice when source files change: for `--reload`, while one writes a server.

Rules of the room:
  * a file counts as changed when its time or size is another; one that is gone, too;
  * nothing is read, and nobody waits here: whoever wants to know asks again.
"""

import os
from collections.abc import Iterable
from typing import final


@final
class Sources:
    """The source files of an application, as they were when somebody last looked."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        """Return how many files are watched."""
        return len(self._seen)

    def watch(self, files: Iterable[str]) -> None:
        """Watch *files*, too, from how they are now."""
        for file in files:
            if file not in self._seen:
                self._seen[file] = _state(file)

    def changed(self) -> list[str]:
        """Return the files that are not as they were when this was asked last."""
        found = []
        for file, before in self._seen.items():
            now = _state(file)
            if now != before:
                self._seen[file] = now
                found.append(file)
        return found


def _state(file: str) -> tuple[int, int]:
    try:
        seen = os.stat(file)
    except OSError:
        return 0, 0
    return seen.st_mtime_ns, seen.st_size
