"""A registry that can be made slow, silent, wrong or impossible, around one in memory."""

import asyncio
from collections.abc import AsyncIterator

from fastrpc.cluster import Change, Instance, Listing, MemoryRegistry, MemoryStore, Registry


class ClumsyRegistry(Registry):
    """Does what a `MemoryRegistry` does, and what a test asks for beside it.

    Attributes:
        is_silent: Nobody is answered any more; set it to False and it goes on.
        delay: Seconds that every answer takes.
        error: What is raised in place of an answer.
        log: What was asked for, in order: "publish", "withdraw" and so on, with the state.
        most: Most statements that were under way at once.
    """

    def __init__(self, store: MemoryStore, ttl: float = 15.0) -> None:
        self.inner = MemoryRegistry(store, ttl)
        self.ttl = ttl
        self.is_silent = False
        self.delay = 0.0
        self.error: Exception | None = None
        self.log: list[str] = []
        self.under_way = self.most = 0
        self.closed = 0
        self.hints = 0

    async def answer(self) -> None:
        """Take one's time, or for ever, or raise."""
        if self.is_silent:
            await asyncio.Event().wait()
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.error is not None:
            raise self.error

    async def publish(self, service: str, instance: Instance) -> None:
        self.log.append(f"publish {instance.state.value}")
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.answer()
            await self.inner.publish(service, instance)
        finally:
            self.under_way -= 1

    async def withdraw(self, service: str, id: str) -> None:
        self.log.append("withdraw")
        await self.answer()
        await self.inner.withdraw(service, id)

    async def list(self, service: str) -> Listing:
        await self.answer()
        return await self.inner.list(service)

    async def watch(self, service: str) -> AsyncIterator[Change]:
        self.log.append("watch")
        await self.answer()
        async for change in self.inner.watch(service):
            yield change

    async def services(self) -> tuple[str, ...]:
        return await self.inner.services()

    def lose(self) -> None:
        """Lose the session."""
        self.inner.lose()

    async def wait_lost(self, since: int = 0) -> int:
        return await self.inner.wait_lost(since)

    def hint(self) -> None:
        self.hints += 1

    async def aclose(self) -> None:
        self.closed += 1
        await self.inner.aclose()
