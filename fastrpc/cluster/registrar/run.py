"""Put a registry server together: the file, the service, and the server that offers it.

It is one process with one file, and knows nothing of other registry servers. Who wants
more than one names all of them in the target: owners publish to each, and who looks
things up asks them in turn. There is nothing for them to agree upon, because every entry
is a lease of one owner, who states it again and again.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final, Unpack, final

from fastrpc.cluster.registrar.contract import NAME
from fastrpc.cluster.registrar.keeper import WATCHES_MAX, Keeper
from fastrpc.cluster.registrar.leases import LeaseLimits
from fastrpc.cluster.registrar.service import TTL_MAX, RegistryService
from fastrpc.cluster.registrar.store import MEMORY, Store
from fastrpc.server import Server, run
from fastrpc.server.options import ServerKeywords

__all__ = ["MEMORY", "Registrar", "run_registrar"]

#: Handlers that run beside watches, which are handlers, too.
_BESIDE: Final = 4096

#: Connections from one host: many servers and clients of a cluster share one.
_PER_HOST: Final = 4096


@final
class Registrar:
    """A registry server.

    Made where no event loop needs to run: it opens the file, and waits for that.

    Args:
        data: File that keeps the entries, ":memory:" for none.
        limits: How much is kept.
        max_ttl: Seconds of the longest lease.
        clock: Returns seconds, monotonic: what leases run by.
        options: What `fastrpc.Server` takes.

    Attributes:
        server: What it is reached through.
        keeper: What it knows.

    Raises:
        ConfigError: The file can't be used, or an option is wrong.
    """

    def __init__(
        self,
        data: str = MEMORY,
        *,
        limits: LeaseLimits | None = None,
        max_ttl: float = TTL_MAX,
        clock: Callable[[], float] = time.monotonic,
        **options: Unpack[ServerKeywords],
    ) -> None:
        options.setdefault("max_running", WATCHES_MAX + _BESIDE)
        options.setdefault("max_per_host", _PER_HOST)
        self.server = Server(**options)
        self._store = Store(data)
        try:
            self.keeper = Keeper(self._store, limits, clock=clock, is_ending=self._is_ending)
        except BaseException:
            self._store.close()
            raise
        self.server.register(RegistryService(self.keeper, max_ttl), NAME)

    @property
    def targets(self) -> list[str]:
        """The real addresses."""
        return self.server.targets

    async def start(self, *targets: str) -> None:
        """Listen at *targets*, see `Server.start`."""
        await self.server.start(*targets)
        self.keeper.begin()

    async def aclose(self, grace: float = 1.0) -> None:
        """Stop; what is to be kept is written. Twice is fine."""
        self.keeper.end()
        try:
            await self.server.aclose(grace)
        finally:
            self.close()

    def close(self) -> None:
        """Write what is to be kept and let go of the file; waits for the disk."""
        self._store.close()

    def _is_ending(self) -> bool:
        return self.server.hall.is_closing


def run_registrar(
    registrar: Registrar,
    *targets: str,
    grace: float = 1.0,
    ready: Callable[[Sequence[str]], object] | None = None,
) -> None:
    """Serve at *targets* until SIGTERM or SIGINT, see `fastrpc.run`.

    Raises:
        TransportError: An address can't be had.
        ConfigError: A target or an option can't be used.
    """

    def begin(real: list[str]) -> None:
        registrar.keeper.begin()
        if ready is not None:
            ready(real)

    try:
        run(registrar.server, *targets, grace=grace, ready=begin)
    finally:
        registrar.close()
