"""Say what a peer is: something that serves an echo and can be called.

A peer's module holds one `PEER`. It is imported in the processes that measure,
never in the one that runs them, so it may import whatever it likes at the top;
what is not installed shows as "not run" with the message of the import.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from bench.compare.load import Clock, Figures, Load, load_async, load_blocking


@dataclass(frozen=True, slots=True)
class Place:
    """Where a peer's server is.

    Attributes:
        port: Free TCP port on 127.0.0.1.
        folder: A folder of this one run, for sockets and built programs.
        server: Process number of the server once it runs.
    """

    port: int
    folder: Path
    server: int = 0


class NotHere(Exception):
    """The peer can't run on this machine; the message says why."""


class Peer(Protocol):
    """What the runner asks of every peer."""

    loads: ClassVar[Sequence[Load]]

    def serve(self, place: Place) -> None:
        """Serve at *place* until the process is ended."""

    def measure(self, place: Place, load: Load, seconds: float) -> Figures:
        """Call the server at *place* for *seconds* and say how it went."""


class AsyncPeer:
    """A peer whose two ends are coroutines."""

    loads: ClassVar[Sequence[Load]] = ()

    async def server(self, place: Place) -> None:
        """Serve until cancelled."""
        raise NotImplementedError

    def connect(
        self, place: Place, load: Load
    ) -> AbstractAsyncContextManager[Callable[[Any], Awaitable[Any]]]:
        """Return a context that gives the call to be measured."""
        raise NotImplementedError

    def payload(self, load: Load) -> Any:
        """Return what is sent, in the form this peer wants."""
        return load.payload

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Run *main* on the event loop that suits this peer best."""
        return asyncio.run(main)

    def serve(self, place: Place) -> None:
        """Serve at *place* until the process is ended."""
        self.run(self.server(place))

    def measure(self, place: Place, load: Load, seconds: float) -> Figures:
        """Call the server at *place* for *seconds* and say how it went."""

        async def main() -> Figures:
            async with self.connect(place, load) as call:
                sent, clock = self.payload(load), Clock(place.server)
                check(await call(sent), sent)
                return await load_async(call, sent, load.in_flight, seconds, clock)

        figures: Figures = self.run(main())
        return figures


class BlockingPeer:
    """A peer whose callers block; many in flight means as many threads."""

    loads: ClassVar[Sequence[Load]] = ()

    def serve(self, place: Place) -> None:
        """Serve at *place* until the process is ended."""
        raise NotImplementedError

    def connect(self, place: Place, load: Load) -> AbstractContextManager[Callable[[Any], Any]]:
        """Return a context that gives one worker's call."""
        raise NotImplementedError

    def payload(self, load: Load) -> Any:
        """Return what is sent, in the form this peer wants."""
        return load.payload

    def together(self, jobs: Sequence[Callable[[], None]]) -> None:
        """Run *jobs* side by side and wait for them; a single one runs right here."""
        if len(jobs) == 1:
            jobs[0]()
            return
        threads = [threading.Thread(target=job) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def measure(self, place: Place, load: Load, seconds: float) -> Figures:
        """Call the server at *place* for *seconds* and say how it went."""
        with ExitStack() as open_ones:
            calls = [
                open_ones.enter_context(self.connect(place, load)) for _ in range(load.in_flight)
            ]
            sent, clock = self.payload(load), Clock(place.server)
            check(calls[0](sent), sent)
            return load_blocking(calls, sent, seconds, clock, self.together)


def check(reply: Any, sent: Any) -> None:
    """Refuse an echo that is not one: what is fast and wrong is not measured."""
    if reply != sent:
        raise ValueError(f"the reply is no echo: {reply!r:.200}")
