"""What the tests of this room share: simple protocols, counts of descriptors."""

import asyncio
import os
from collections.abc import Callable


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    transport: asyncio.Transport
    is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.is_lost = True


class Client(asyncio.Protocol):
    """Keeps what comes; `got` and `lost` are there to wait for."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.received = b""
        self.got: asyncio.Future[bytes] = loop.create_future()
        self.lost: asyncio.Future[BaseException | None] = loop.create_future()

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.got.done():
            self.got.set_result(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.got.cancel()
        self.lost.set_result(exc)


def descriptors() -> set[str]:
    """Return what this process has open."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{number}={os.readlink(f'/proc/self/fd/{number}')}")
        except FileNotFoundError:  # the one that listed the folder
            continue
    return found


def sockets() -> set[str]:
    """Return those of them that are sockets: loops open other things of their own as they go."""
    return {each for each in descriptors() if "=socket:" in each}


async def turn_until(condition: Callable[[], object], *, seconds: float = 5.0) -> None:
    """Let the loop run until *condition* holds, whatever the kernel still has to do."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)
