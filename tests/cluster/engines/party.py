"""Who uses a registry from a host of its own, as servers and clients do."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from fastrpc.cluster import Instance, Registry
from fastrpc.errors import RegistryLost
from tests.cluster.engines.netns import HostLoop, Net

TTL = 2.0
ONE = Instance(id="one", addresses=("tcp://10.0.0.1:7000",))

R = TypeVar("R", bound=Registry)
P = TypeVar("P", bound="Party[Any]")


class Party(Generic[R]):
    """A registry on a host.

    Args:
        host: Whose loop it is used on.
        open: Makes the registry, on that loop.

    Attributes:
        stated: How often the entry was stated.
        failed: How often it could not be.
        losses: How often the registry said that what it had is lost.
    """

    def __init__(self, host: HostLoop, open: Callable[[], R]) -> None:
        self.host = host
        self.registry = host.run(self._open(open))
        self.stated = self.failed = self.losses = 0

    async def _open(self, open: Callable[[], R]) -> R:
        return open()

    async def announce(self) -> None:
        """State the entry whenever it is due, as announcers do."""
        lost = asyncio.ensure_future(self.registry.wait_lost())
        try:
            while True:
                try:
                    await self.registry.publish("Arith", ONE)
                    self.stated += 1
                    await asyncio.wait([lost], timeout=TTL / 3)
                except RegistryLost:
                    self.failed += 1
                    await asyncio.sleep(0.1)
                if lost.done():
                    self.losses += 1
                    lost = asyncio.ensure_future(self.registry.wait_lost(lost.result()))
        finally:
            lost.cancel()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until *condition* holds."""
        while not condition():
            await asyncio.sleep(0.02)

    async def until_lost(self) -> None:
        """Wait until the registry can't be asked."""
        with contextlib.suppress(RegistryLost):
            while True:
                await self.registry.list("Arith")
                await asyncio.sleep(0.05)

    async def aclose(self) -> None:
        """Let go of the registry."""
        await self.registry.aclose()


@contextlib.contextmanager
def announced(net: Net, party: Callable[[HostLoop], P]) -> Iterator[tuple[P, P]]:
    """Give two, on the hosts "server" and "client"; the first announces itself all the time."""
    with contextlib.ExitStack() as stack:
        parties = []
        for name in ("server", "client"):
            one = party(stack.enter_context(net.loop(name)))
            stack.callback(lambda one=one: one.host.run(one.aclose()))
            parties.append(one)
        server, client = parties
        announcing = server.host.start(server.announce())
        stack.callback(announcing.cancel)
        yield server, client
        assert not announcing.done()
