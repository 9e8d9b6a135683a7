"""Name the shapes of what stubs give, where `typing` has no name for them.

Stubs are written for type checkers (`fastrpc stubs`), and what a stream gives can be
used in two ways. No class has to inherit from these: who has the methods fits.
"""

from types import TracebackType
from typing import Protocol, Self, TypeVar

T_co = TypeVar("T_co", covariant=True)


class AsyncStream(Protocol[T_co]):
    """Items that come one by one: `async for` takes them, `async with` ends them early."""

    def __aiter__(self) -> Self:
        """Return the stream itself."""
        ...

    async def __anext__(self) -> T_co:
        """Return the next item."""
        ...

    async def __aenter__(self) -> Self:
        """Return the stream itself."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the stream, whatever is left of it."""
        ...
