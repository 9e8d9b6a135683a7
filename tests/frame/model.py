"""Read frames and msgpack a third way: slow, short, and written without the twins.

That the twins agree could mean that both are wrong; so both are compared with this.
"""

from typing import Any

_FRAME = (
    ("flags", 5, 1), ("status", 6, 1), ("bits", 7, 1), ("id", 8, 8), ("size", 16, 4),
    ("arg", 20, 4), ("time", 24, 4), ("name_size", 28, 2), ("meta_size", 30, 2),
)  # fmt: skip


class Refused(Exception):
    """The bytes are no frames."""

    def __init__(self, at: str) -> None:
        super().__init__(at)
        self.at = at


def read_frames(
    data: bytes, max_body: int, magic: int = 0xFA57
) -> tuple[list[dict[str, Any]], str]:
    """Return the frames in *data*, and which part of the next one is wrong ("" if none is)."""
    frames: list[dict[str, Any]] = []
    try:
        while True:
            frame, data = _read_frame(data, max_body, magic)
            if frame is None:
                return frames, ""
            frames.append(frame)
    except Refused as refused:
        return frames, refused.at


def _read_frame(data: bytes, max_body: int, magic: int) -> tuple[dict[str, Any] | None, bytes]:
    if len(data) >= 2 and int.from_bytes(data[:2], "big") != magic:
        raise Refused("magic")
    if len(data) < 20:
        return None, data
    head = int.from_bytes(data[2:4], "big")
    if head < 20 or head > 256 or head % 4 != 0:
        raise Refused("header size")
    if data[4] != 1:
        raise Refused("version")
    known = data[: min(head, 32)].ljust(32, b"\0")
    raw = {name: int.from_bytes(known[at : at + size], "big") for name, at, size in _FRAME}
    size = raw["size"]
    if size >= 2**31 or (size > max_body and size > 64 * 2**20):
        raise Refused("body size")
    if len(data) < head:
        return None, data
    body = data[head : head + size]
    if size <= max_body and len(body) < size:
        return None, data
    name, meta = raw["name_size"], raw["meta_size"]
    if name + meta > size:
        raise Refused("name and meta")
    frame: dict[str, Any] = {
        "kind": raw["bits"] % 16, "bits": raw["bits"] // 16 * 16, "id": raw["id"],
        "serializer": raw["flags"] % 32, "reply": raw["flags"] >= 128,
        "oneway": raw["flags"] // 64 % 2 == 1, "heartbeat": raw["flags"] // 32 % 2 == 1,
        "status": raw["status"], "arg": raw["arg"], "time": raw["time"],
        "name": b"", "metadata": b"", "payload": b"", "buffers": [], "oversize": 0,
    }  # fmt: skip
    if size > max_body:
        frame["oversize"] = size
        return frame, data[head + size :]
    frame["name"], frame["metadata"] = body[:name], body[name : name + meta]
    segments = [body[name + meta :]]
    if raw["bits"] // 64 % 2 == 1:
        segments = _read_segments(body, name + meta)
    frame["payload"], frame["buffers"] = segments[0], segments[1:]
    return frame, data[head + size :]


def _read_segments(body: bytes, at: int) -> list[bytes]:
    count = int.from_bytes(body[at : at + 4].ljust(4, b"\xff"), "big")
    if not 1 <= count <= 1024 or len(body) < at + 4 + 4 * count:
        raise Refused("segment table")
    sizes = [int.from_bytes(body[at + 4 * i : at + 4 * i + 4], "big") for i in range(1, count + 1)]
    at += 4 + 4 * count
    segments = []
    for size in sizes:
        while at % 8:
            if at >= len(body) or body[at]:
                raise Refused("segment table")
            at += 1
        if at + size > len(body):
            raise Refused("segment table")
        segments.append(body[at : at + size])
        at += size
    if at != len(body):
        raise Refused("segment table")
    return segments


def measure(value: object) -> tuple[int, int, bool]:
    """Return how deep a value is nested, how many items it has, and whether a key has any."""
    if isinstance(value, Pairs):
        inner = [part for pair in value.pairs for part in pair]
        keyed = any(isinstance(key, Pairs | list) for key, _ in value.pairs)
    elif isinstance(value, list):
        inner, keyed = value, False
    else:
        return 0, 0, False
    parts = [measure(part) for part in inner]
    depth = 1 + max((part[0] for part in parts), default=0)
    return (
        depth,
        len(inner) + sum(part[1] for part in parts),
        keyed or any(part[2] for part in parts),
    )


class Pairs:
    """A map as msgpack has it: keys may be anything, and come twice."""

    def __init__(self, pairs: list[tuple[object, object]]) -> None:
        self.pairs = pairs

    def __repr__(self) -> str:
        return f"Pairs({self.pairs!r})"


def pack(value: object, wide: int = 0) -> bytes:
    """Return *value* as msgpack; *wide* makes containers' headers longer than they need be."""
    if isinstance(value, Pairs):
        inner = b"".join(pack(part, wide) for pair in value.pairs for part in pair)
        return _header(len(value.pairs), 0x80, 0xDE, wide) + inner
    if isinstance(value, list):
        return _header(len(value), 0x90, 0xDC, wide) + b"".join(pack(item, wide) for item in value)
    assert isinstance(value, bytes)  # a leaf, packed already
    return value


def _header(count: int, fix: int, first: int, wide: int) -> bytes:
    if count < 16 and wide == 0:
        return bytes([fix + count])
    if count < 2**16 and wide <= 1:
        return bytes([first]) + count.to_bytes(2, "big")
    return bytes([first + 1]) + count.to_bytes(4, "big")
