"""Hold the values that are sent everywhere in here, so that all figures speak of the same."""

from dataclasses import dataclass
from typing import Any, Final

SMALL: Final[dict[str, Any]] = {"id": 12345, "name": "alice", "tags": ["a", "b"], "score": 1.5}
BLOB: Final = b"x" * 2**20


@dataclass
class Small:
    """`SMALL` as a dataclass."""

    id: int
    name: str
    tags: list[str]
    score: float
