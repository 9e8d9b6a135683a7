"""Say what a compressor is: bytes to fewer bytes, and back to exactly as many.

It is a module of its own so that the compressors, the registry and a user's own
compressor can agree without importing one another.

Rules of the room:
  * a compressor knows nothing of frames, codecs or connections;
  * a compressor has no state that a call could change, so one object serves all:
    nothing of one payload may help or harm the next;
  * bytes come from a peer nobody trusts: they are never inflated past the size
    that was asked for, and memory grows with what comes out, not with what was
    promised.
"""

from typing import Protocol

from fastrpc.errors import ConfigError

#: What payloads come in: a compressor reads from any of these and keeps none.
Data = bytes | bytearray | memoryview


class Compressor(Protocol):
    """Turn bytes into fewer bytes and back.

    `fastrpc.testing.check_compressor` is the test that every compressor must pass.

    Attributes:
        name: What users and HELLO call it, such as "zlib": 1 to 32 lower-case
            letters, digits or ``._+-``.
    """

    name: str

    def compress(self, data: Data, /) -> bytes:
        """Return *data* in one piece that stands for itself; it need not be smaller."""
        ...

    def decompress(self, data: Data, size: int, /) -> bytes:
        """Return the *size* bytes that *data* stands for.

        Raises:
            CodecError: *data* is not exactly one compressed piece of exactly
                *size* bytes: damaged, cut off, longer, shorter, or followed by
                anything. Any other exception counts as the same.
        """
        ...


def check_level(name: str, level: int, lowest: int, highest: int) -> int:
    """Return *level* if the compressor called *name* has it.

    Raises:
        ConfigError: It has not; the text says which there are.
    """
    if type(level) is not int or not lowest <= level <= highest:
        raise ConfigError(f"the level of {name} must be {lowest} to {highest}, got {level!r}")
    return level
