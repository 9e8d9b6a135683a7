"""Say what a codec is: values to bytes, bytes to values, checked against types.

It is a module of its own so that the codecs, the session and a user's own codec
can agree without importing one another.

Rules of the room:
  * a codec knows nothing of frames, methods or connections;
  * a codec has no state that a call could change, so one object serves all;
  * bytes come from a peer nobody trusts: every error is an exception, never a
    crash, and the texts tell types and places, never what was sent.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from fastrpc.errors import CodecError


class Codec(Protocol):
    """Turn values into bytes and back.

    `fastrpc.testing.check_codec` is the test that every codec must pass.

    Attributes:
        name: What users and HELLO call it, such as "msgpack".
        serializer: Its number on the wire, 0 to 31.
    """

    name: str
    serializer: int

    def encode(self, value: object, /) -> bytes:
        """Return *value* as bytes; raise any exception if that can't be done."""
        ...

    def decode(self, data: bytes, /) -> object:
        """Return the value in *data*, made of plain types only."""
        ...

    def decoder(self, type: object, /) -> Callable[[bytes], object]:
        """Return a function that reads one value of *type*.

        Raises:
            ConfigError: Values of *type* can't be read, whatever the bytes.
        """
        ...

    def arguments(
        self, types: Sequence[object], required: int, rest: object | None, /
    ) -> Callable[[bytes], Sequence[object]]:
        """Return a function that reads the positional arguments of a method.

        It takes an array of *required* to `len(types)` items, then any number of
        items of type *rest* unless that is None, and raises for anything else; who
        wants to know why decodes again without types and converts item by item.

        Raises:
            ConfigError: Values of one of the types can't be read.
        """
        ...

    def convert(self, value: object, type: object, /) -> object:
        """Return a *value* from `decode` as a value of *type*.

        Raises:
            CodecError: It doesn't fit; the text says what was expected and got.
        """
        ...


class Mismatch(CodecError):
    """A value doesn't have the type it should.

    Args:
        problem: What is wrong, such as "expected int, got str".
        path: Where inside the value, such as "item 3, field 'x'"; empty for the
            value itself.
    """

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.problem = problem
        self.path = path

    def inside(self, step: str) -> "Mismatch":
        """Return the same problem as seen from one container further out."""
        return Mismatch(self.problem, f"{step}, {self.path}" if self.path else step)
