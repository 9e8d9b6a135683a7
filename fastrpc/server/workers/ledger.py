"""Remember what workers have counted that are gone.

A figure that all workers counted together must not fall when one of them leaves: to a monitor
that would look like a restart of everything. So a worker writes down what it has counted,
before it tells anybody and when it leaves, and the supervisor adds it up when it is gone.

What is counted is none of this room's business: names, with numbers or again names behind them.

Rules of the room:
  * a file is replaced as a whole, so nobody reads half of one;
  * whose figures were added up is known by number, and they are added once.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final

_GONE: Final = "gone.json"
_MOST_NUMBERS: Final = 1000  # far more than can be asked while one of them is being added


def add_up(total: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add the numbers of *more* to those of *total*, name by name."""
    for name, value in more.items():
        if isinstance(value, Mapping):
            add_up(total.setdefault(name, {}), value)
        else:
            total[name] = total.get(name, 0) + value


@final
class Ledger:
    """The files with what workers have counted.

    Args:
        folder: Where they are; nobody else can write there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, seat: int, number: int, counted: Mapping[str, Any]) -> None:
        """Note what a worker has counted so far.

        Args:
            seat: Where it sits.
            number: Its own.
            counted: All of it, by the path of a server.
        """
        self._put(f"{seat}.json", {"number": number, "counted": counted})

    def read(self, seat: int, number: int) -> dict[str, Any]:
        """Return what a worker has written; nothing if it is another's by now."""
        entry = self._get(f"{seat}.json")
        counted: dict[str, Any] = entry.get("counted", {}) if entry.get("number") == number else {}
        return counted

    def gone(self) -> tuple[set[int], dict[str, Any]]:
        """Return the numbers of workers that are gone, and what they have counted together."""
        entry = self._get(_GONE)
        return set(entry.get("numbers", ())), entry.get("counted", {})

    def add_gone(self, seat: int, number: int) -> None:
        """Add what a worker has written to what the others had: it is gone."""
        counted = self.read(seat, number)
        if counted:
            entry = self._get(_GONE)
            total = entry.get("counted", {})
            add_up(total, counted)
            numbers = [*entry.get("numbers", ()), number][-_MOST_NUMBERS:]
            self._put(_GONE, {"numbers": numbers, "counted": total})
        with contextlib.suppress(FileNotFoundError):
            self._file(f"{seat}.json").unlink()

    def _file(self, name: str) -> Path:
        return self._folder / name

    def _get(self, name: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._file(name).read_bytes())
        except FileNotFoundError:
            return {}
        return found

    def _put(self, name: str, entry: Mapping[str, Any]) -> None:
        fresh = self._file(f"{name}.{os.getpid()}")
        fresh.write_text(json.dumps(entry))
        fresh.replace(self._file(name))
