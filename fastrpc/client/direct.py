"""Call the methods of one server: a target, and the connections to it."""

import asyncio
import copy
from typing import final

from fastrpc.client.client import Client
from fastrpc.client.link import Link
from fastrpc.client.options import ClientOptions
from fastrpc.session import Session, Side
from fastrpc.transport import parse_target

__all__ = ["DirectClient"]


@final
class DirectClient(Client):
    """The client of one server. Made by `connect`.

    Args:
        target: Where it is.
        options: How to behave.
    """

    def __init__(self, target: str, options: ClientOptions) -> None:
        self._target = parse_target(target)
        self._tls = options.encryption(self._target)
        self._links: list[Link] = []
        super().__init__(options)

    @property
    def target(self) -> str:
        """Where the server is."""
        return str(self._target)

    def links(self) -> list[Link]:
        """Return all connections that come back."""
        return self._links

    def _begin(self, side: Side, loop: asyncio.AbstractEventLoop) -> None:
        """Connect, unless that is under way."""
        if not self._links:
            options, serializer = self._options, self.codec.serializer
            self._links = [
                Link(
                    side, loop, [(self._target, self._tls)], options.connect_timeout,
                    options.proxy, serializer, self.lanes, self._changed,
                )
                for _ in range(options.connections)
            ]  # fmt: skip
        for link in self._links:
            link.begin()

    def _forget(self) -> None:
        """Let go of everything that belongs to the loop."""
        self._links = []

    async def _connected(self) -> Session:
        """Wait for a connection and return one."""
        while True:
            self._bind()
            for link in self._links:
                if link.session is not None:
                    return link.session
            await self._attempt(0.0)

    async def _attempt(self, deadline: float) -> bool:
        """Wait for a connection; False if the deadline came first.

        Raises:
            FastRPCError: An attempt failed, or none begins within `connect_timeout`.
        """
        self._bind()
        ended = sum(link.ended for link in self._links)
        soonest = min(self._links, key=Link.next_attempt)
        if soonest.next_attempt() > self._options.connect_timeout and soonest.failure is not None:
            raise copy.copy(soonest.failure)
        while await self._news.wait(deadline):
            self._check_open()
            if self.lanes:
                return True
            if any(link.is_dialling for link in self._links):
                continue
            failed = [link.failure for link in self._links if link.failure is not None]
            if failed and sum(link.ended for link in self._links) > ended:
                raise copy.copy(failed[0])  # its own for each: tracebacks are not shared
        return False
