"""Hold the numbers of the wire document: layout, kinds, flags, status, limits.

One place for every number that two programs must agree on; docs/spec/wire.md
is the same in words. Nothing here does anything.

Rules of the room:
  * a number changes only when the wire document changes;
  * `_frame.pyx` keeps C copies of some of these, and a test compares them.
"""

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Final, TypedDict

from fastrpc.errors import ConfigError

MAGIC: Final = 0xFA57
VERSION: Final = 1

# Header sizes a writer uses; a reader takes any multiple of 4 up to the maximum.
HEADER_BASE: Final = 20
HEADER_ARG: Final = 24
HEADER_TIME: Final = 28
HEADER_FULL: Final = 32
HEADER_MAX: Final = 256

# Byte 5: direction, delivery and serializer.
FLAG_REPLY: Final = 0x80
FLAG_ONEWAY: Final = 0x40
FLAG_HEARTBEAT: Final = 0x20
MASK_SERIALIZER: Final = 0x1F

# Byte 7: bits and kind.
BIT_END: Final = 0x10
BIT_ZIP: Final = 0x20
BIT_SEG: Final = 0x40
BIT_MORE: Final = 0x80
MASK_KIND: Final = 0x0F

SEGMENT_ALIGN: Final = 8
PING_BODY_MAX: Final = 64
CREDIT_MAX: Final = 2**31 - 1
ID_MAX: Final = 2**63 - 1
BODY_MAX: Final = 2**31 - 1  # a body of 2**31 or more closes the connection
DEFAULT_BODY: Final = 16 * 2**20
SKIP_MAX: Final = 64 * 2**20  # too large a body is skipped up to here, else close
BIG_BODY: Final = 32 * 2**10  # from here on a body gets memory of its own


class Kind(IntEnum):
    """What a frame is."""

    CALL = 0
    HELLO = 1
    OPEN = 2
    DATA = 3
    HALF = 4
    CREDIT = 5
    CANCEL = 6
    GOAWAY = 7


#: Kinds 8 to 11 must be understood; 12 to 15 are skipped if unknown.
KIND_CRITICAL: Final = range(8, 12)


class Serializer(IntEnum):
    """How a payload is encoded."""

    RAW = 0
    MSGPACK = 1
    JSON = 2
    PICKLE = 3
    PROTOBUF = 4
    CBOR = 5
    ARROW = 6


SERIALIZERS: Final = 32
SERIALIZER_CUSTOM: Final = range(16, 32)


class StatusCode(IntEnum):
    """How a call ended."""

    OK = 0
    NETWORK = 10
    BAD_REQUEST = 40
    CLIENT_TIMEOUT = 41
    CANCELLED = 42
    UNAUTHENTICATED = 43
    NOT_FOUND = 44
    FORBIDDEN = 45
    TOO_LARGE = 46
    UNSUPPORTED = 47
    SERVER_ERROR = 50
    DEADLINE = 51
    OVERLOADED = 52
    UNAVAILABLE = 53
    RESULT_UNSENDABLE = 54
    APPLICATION = 60
    PROTOCOL = 70
    FLOOD = 71


#: The handler was surely not started: safe to send to another server.
NOT_RUN: Final = frozenset({40, 43, 44, 45, 46, 47, 52, 53})


LIMIT_CEILINGS: Final = {
    "max_body": BODY_MAX,
    "max_methods": 65_535,
    "max_name": 255,
    "max_metadata": 65_535,
    "max_segments": 1024,
    "max_depth": 512,
    "max_hello": 16 * 2**10,
    "window": CREDIT_MAX,
}


class LimitKeywords(TypedDict, total=False):
    """The fields of `Limits` as keyword arguments, for type checkers."""

    max_body: int
    max_calls: int
    max_methods: int
    max_name: int
    max_metadata: int
    max_metadata_pairs: int
    max_segments: int
    max_depth: int
    max_items: int
    max_hello: int
    window: int
    hello_timeout: float
    frame_timeout: float
    frame_rate: float
    ping_interval: float
    idle_ping: float
    ping_timeout: float
    write_stall: float
    max_unsent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one side accepts from a peer; sizes in bytes, times in seconds.

    Attributes:
        max_body: Longest frame body.
        max_calls: Calls and streams of one peer open at once.
        max_methods: Largest method number bound for one peer.
        max_name: Longest method name.
        max_metadata: Most metadata on a call.
        max_metadata_pairs: Most metadata pairs on a call.
        max_segments: Most segments of a frame.
        max_depth: Deepest nesting of a payload.
        max_items: Most elements of a payload, all containers together.
        max_hello: Longest HELLO body.
        window: Credit a peer has at the start of a stream.
        hello_timeout: Time to the first whole frame.
        frame_timeout: Time from the first byte of a frame to its last.
        frame_rate: Bytes per second below which a slow frame is cut off.
        ping_interval: Shortest time between a peer's pings.
        idle_ping: Silence after which we ping.
        ping_timeout: Silence after our ping that means the peer is gone.
        write_stall: Time a peer may read nothing while we have bytes for it.
        max_unsent: Most bytes waiting for one peer to read.
    """

    max_body: int = DEFAULT_BODY
    max_calls: int = 1024
    max_methods: int = 4096
    max_name: int = 255
    max_metadata: int = 16 * 2**10
    max_metadata_pairs: int = 64
    max_segments: int = 1024
    max_depth: int = 64
    max_items: int = 100_000
    max_hello: int = 16 * 2**10
    window: int = 256 * 2**10
    hello_timeout: float = 5.0
    frame_timeout: float = 30.0
    frame_rate: float = 1024.0
    ping_interval: float = 1.0
    idle_ping: float = 15.0
    ping_timeout: float = 20.0
    write_stall: float = 10.0
    max_unsent: int = 8 * 2**20

    def __post_init__(self) -> None:
        """Refuse values that no peer could live with."""
        for field in fields(self):
            value = getattr(self, field.name)
            ceiling = LIMIT_CEILINGS.get(field.name, 2**53)
            whole = isinstance(field.default, int)
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                kind = "a whole number" if whole else "a number"
                raise ConfigError(f"{field.name} must be {kind}, got {value!r}")
            if not 0 < value <= ceiling:
                raise ConfigError(
                    f"{field.name} must be above 0 and at most {ceiling}, got {value!r}"
                )


#: What a client keeps to until the server's HELLO came.
BASELINE_BODY: Final = 2**20
BASELINE_CALLS: Final = 128
BASELINE_WINDOW: Final = 65_536

#: What comes behind the marker of a msgpack value that is no container: so many bytes, or a
#: length of so many bytes and so many beside what it counts.
MSGPACK_FIXED: Final = {
    0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
    0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip
MSGPACK_VARIABLE: Final = {
    0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
    0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0),
}  # fmt: skip
