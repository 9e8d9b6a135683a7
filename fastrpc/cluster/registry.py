"""Say what a registry can do: where instances are written down, looked up and watched.

Every engine is one class that keeps this contract, ours and a user's; `fastrpc.testing`
has the suite that shows it, `check_registry`. The rules behind it are about what goes
wrong: a lease that expired while its owner slept, a reply that was lost, an old entry
of a server that has started again.

Rules of the room:
  * `publish` is the renewal too: it makes the entry so, whatever was there before;
  * an engine never decides that an instance is gone because it could not ask;
  * nothing here blocks the loop, and every answer has a limit.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import final

from fastrpc.cluster.instance import Instance

__all__ = ["Change", "Gone", "Listing", "Losses", "Put", "Registry"]


@final
@dataclass(frozen=True, slots=True)
class Listing:
    """All instances of a service at one moment.

    Attributes:
        instances: Those that could be read, each id once.
        skipped: How many entries could not.
    """

    instances: tuple[Instance, ...]
    skipped: int = 0


@final
@dataclass(frozen=True, slots=True)
class Put:
    """An instance that came, or is another than before."""

    instance: Instance


@final
@dataclass(frozen=True, slots=True)
class Gone:
    """An instance that left.

    Attributes:
        id: Of the instance.
        is_explicit: Whether its owner has withdrawn it; else its time ran out, or nobody
            can tell.
    """

    id: str
    is_explicit: bool = False


#: What a watch gives.
Change = Listing | Put | Gone


@final
class Losses:
    """A count of losses that any number may wait for: what `Registry.wait_lost` stands on.

    Made anywhere, it belongs to the event loop where it is first waited for.

    Attributes:
        count: How many there were so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._next = asyncio.Event()  # one for each loss, so nobody can miss it by being late

    def note(self) -> None:
        """Count one more, and tell all who wait."""
        self.count += 1
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self, since: int) -> int:
        """Wait until there were more than *since*, and return how many."""
        while self.count <= since:
            await self._next.wait()
        return self.count


class Registry(ABC):
    """Where the instances of services are written down.

    Made anywhere, it belongs to the event loop where it is first used. What it publishes
    is its own: two registries of one process are two owners.

    Attributes:
        ttl: Seconds for which an entry outlives its owner; infinity if for ever.
        can_publish: Whether instances can be written down here at all.
    """

    ttl: float = float("inf")
    can_publish: bool = True

    @abstractmethod
    async def publish(self, service: str, instance: Instance) -> None:
        """Make it so: the entry is there, it is ours, and it says this.

        Called again before `ttl` is over, it renews. What somebody else left under the
        same id is replaced.

        Raises:
            RegistryLost: It can't be done now; call again.
            ConfigError: It can never be done here.
        """

    @abstractmethod
    async def withdraw(self, service: str, id: str) -> None:
        """Take an entry of ours away; one that is not there, or not ours, is left alone.

        Raises:
            RegistryLost: It can't be done now; the entry expires.
        """

    @abstractmethod
    async def list(self, service: str) -> Listing:
        """Return what is there now.

        Raises:
            RegistryLost: It can't be asked.
        """

    @abstractmethod
    def watch(self, service: str) -> AsyncGenerator[Change, None]:
        """Give what is there, and then what changes.

        The first change is a `Listing`; another comes whenever something may have been
        missed. Nothing that was listed is left out later: between two listings each
        change is told, in order.

        Raises:
            RegistryLost: It can't go on; begin anew.
        """

    @abstractmethod
    async def services(self) -> tuple[str, ...]:
        """Return the names of the services that have instances, sorted."""

    def hint(self) -> None:  # noqa: B027 - those who are told of changes have nothing to do
        """Look again soon: a connection to what was listed has failed.

        For engines that look from time to time; these look again, but not as often as
        they are told.
        """

    @abstractmethod
    async def wait_lost(self, since: int = 0) -> int:
        """Return when what was published may be gone before its time: a session was lost.

        Several may wait, each for itself: a loss is for all of them, also for those who were
        busy with something else when it happened.

        Args:
            since: What this gave the last time, 0 at first.

        Returns:
            How many losses there were so far, more than *since*.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of everything; entries of ours expire. Twice is fine."""
