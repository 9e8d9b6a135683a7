"""Hold what CBOR and XML have in common: limits, and types read from plain values.

Rules of the room:
  * `decode` keeps to the limits; the typed half sees only what came out of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from fastrpc.codec.engine import Described
from fastrpc.codec.reader import Dialect


class Limited(ABC):
    """A codec whose bytes tell what they hold, with limits of its own.

    Args:
        max_depth: Deepest nesting of a payload.
        max_items: Most elements of a payload, all containers together.
    """

    decoder: Callable[[object], Callable[[bytes], object]]
    arguments: Callable[[Sequence[object], int, object | None], Callable[[bytes], Sequence[object]]]
    convert: Callable[[object, object], object]

    def __init__(self, max_depth: int = 64, max_items: int = 100_000) -> None:
        self.max_depth = max_depth
        self.max_items = max_items
        # Integers without end can be chosen to have one hash.
        typed = Described(Dialect(big_ints=True), self.decode)
        self.decoder, self.arguments = typed.decoder, typed.arguments
        self.convert = typed.convert

    @abstractmethod
    def decode(self, data: bytes, /) -> object:
        """Return the value in *data*, after checking its limits."""
