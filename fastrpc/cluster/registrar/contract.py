"""Say what a registry server offers to its clients: methods, messages, refusals.

It is apart from the server so that clients import no database.

Rules of the room:
  * what an entry says is opaque here, so that newer clients may say more than we know;
  * long lists come in parts, each far below the limit of a message;
  * a refusal is a `RpcError` with one of the codes below.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, final

__all__ = ["NAME", "PART", "News", "Refusal", "RegistryContract"]

#: Name of the service.
NAME: Final = "Registry"

#: Bytes of entries in one message; the last entry may go over.
PART: Final = 48 * 2**10


class Refusal(IntEnum):
    """Why a registry server did not do as asked."""

    WRONG = 1  # a name, a token, an entry or a time that nobody can use
    FULL = 2  # a limit of this server is reached; later there may be room
    BROKEN = 3  # it can't be kept: the disk is full, say
    ENDING = 4  # the server stops


@final
@dataclass(frozen=True, slots=True)
class News:
    """A part of a list, or changes since the last message.

    Attributes:
        epoch: Of the server: revisions of one have nothing to do with those of another.
        revision: Up to which this tells everything.
        entries: Id, text, and, if the text is None, whether its owner took it away.
        is_listing: Whether all entries are told, and not only what has changed.
        is_more: Whether the list goes on in the next message.
    """

    epoch: str
    revision: int
    entries: list[tuple[str, bytes | None, bool]] = field(default_factory=list)
    is_listing: bool = False
    is_more: bool = False


class RegistryContract:
    """Keep instances of services for their owners, as long as these say so."""

    async def publish(
        self, prefix: str, service: str, id: str, text: bytes, owner: str, ttl: float
    ) -> None:
        """Write an entry, or renew it: it is *owner*'s for *ttl* seconds from now."""
        raise NotImplementedError

    async def withdraw(self, prefix: str, service: str, id: str, owner: str) -> bool:
        """Take an entry away if it is *owner*'s; return whether it was."""
        raise NotImplementedError

    async def services(self, prefix: str) -> list[str]:
        """Return the names of services that have entries, sorted."""
        raise NotImplementedError

    def listing(self, prefix: str, service: str) -> AsyncIterator[News]:
        """Give all entries of a service, in parts."""
        raise NotImplementedError

    def watch(
        self, prefix: str, service: str, epoch: str = "", revision: int = 0
    ) -> AsyncIterator[News]:
        """Give what has changed since a revision, or all if nobody knows any more; go on."""
        raise NotImplementedError

    def owned(self, owner: str) -> AsyncIterator[int]:
        """Give 0 at once, and a number whenever *owner* has lost entries: to time, to another."""
        raise NotImplementedError
