"""Serve objects for a test, with a client that is connected to them.

    async with serving(Arith()) as client:
        assert await client.call("Arith.add", 1, 2) == 3

Everything is in memory, and ends with the block.
"""

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Unpack

from fastrpc.client import Client, connect
from fastrpc.client.options import ConnectOptions
from fastrpc.server import Server
from fastrpc.testing.faults import Faults
from fastrpc.testing.relay import FaultRelay

__all__ = ["PATIENCE", "serving"]

#: Seconds that calls may take in a test that does not say: a lost one shall end it.
PATIENCE: Final = 5.0

_NUMBERS: Final = itertools.count(1)


@asynccontextmanager
async def serving(
    *services: Any,
    faults: Faults | None = None,
    server: Server | None = None,
    **options: Unpack[ConnectOptions],
) -> AsyncIterator[Client]:
    """Serve *services*, and return a client that is connected.

    Args:
        services: What `Server.register` takes.
        faults: What shall go wrong between the two.
        server: With options of your own, not started; it is closed at the end.
        **options: Of the client, as `fastrpc.connect` has them; calls have a timeout of
            five seconds by default.
    """
    options.setdefault("timeout", PATIENCE)
    async with AsyncExitStack() as stack:
        own = await stack.enter_async_context(Server() if server is None else server)
        for service in services:
            own.register(service)
        await own.start(f"mem://serving-{next(_NUMBERS)}")
        target = own.targets[0]
        if faults is not None:
            target = (await stack.enter_async_context(FaultRelay(target, faults))).target
        yield await stack.enter_async_context(connect(target, **options))
