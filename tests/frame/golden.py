"""Read the golden vectors."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[1] / "vectors" / "golden.json"
SEED_MAGIC = 0xCAF6

# What the vectors call the fields, and what a Frame does.
_NUMBERS = {
    "kind": "kind", "id": "id", "st": "serializer", "status": "status", "bits": "bits",
    "arg": "arg", "time": "time",
}  # fmt: skip
_FLAGS = {"rp": "reply", "ow": "oneway", "hb": "heartbeat"}
_BYTES = {"name": "name", "meta": "metadata", "payload": "payload"}


@dataclass(frozen=True)
class Vector:
    """Bytes, and what they mean or what is wrong with them.

    Attributes:
        name: Short name.
        data: The whole frame.
        fields: What a Frame must hold, for good vectors.
        at: Which part is wrong, for bad ones.
    """

    name: str
    data: bytes
    fields: dict[str, Any]
    at: str

    def __str__(self) -> str:
        return self.name


def _fields(told: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        ours: told[theirs] for theirs, ours in _NUMBERS.items() if theirs in told
    }
    fields |= {ours: bool(told[theirs]) for theirs, ours in _FLAGS.items() if theirs in told}
    fields |= {
        ours: bytes.fromhex(told[theirs]) for theirs, ours in _BYTES.items() if theirs in told
    }
    fields["buffers"] = [bytes.fromhex(buffer) for buffer in told.get("buffers", [])]
    return fields


def _read(group: str) -> list[Vector]:
    told = json.loads(PATH.read_text(encoding="utf-8"))[group]
    return [
        Vector(
            one["name"],
            bytes.fromhex(one["hex"]),
            _fields(one["fields"]) if "fields" in one else {},
            one.get("at", ""),
        )
        for one in told
    ]


GOOD = _read("good")
BAD = _read("bad")
SEED = _read("seed")
