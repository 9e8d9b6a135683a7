"""Streams of every kind, and how they end.

    python examples/streams.py

An async generator streams to its caller, a parameter annotated AsyncIterator gets the
caller's items, and both together are a conversation.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import fastrpc


@dataclass
class Reading:
    """What a sensor says."""

    sensor: str
    celsius: float


class Weather:
    """Readings of a summer's day."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def readings(self, sensor: str) -> AsyncIterator[Reading]:
        """Tell what *sensor* measures, for ever."""
        celsius = 20.0
        try:
            while True:
                yield Reading(sensor, celsius)
                celsius += 0.5
        finally:
            self.closed.set()

    async def warmest(self, readings: AsyncIterator[Reading]) -> Reading:
        """Return the highest of the caller's readings."""
        return max([reading async for reading in readings], key=lambda each: each.celsius)

    async def smooth(self, readings: AsyncIterator[Reading]) -> AsyncIterator[float]:
        """Give the mean of the last two readings, as they come."""
        before: float | None = None
        async for reading in readings:
            if before is not None:
                yield (before + reading.celsius) / 2
            before = reading.celsius


async def recorded() -> AsyncIterator[Reading]:
    for celsius in (18.0, 24.0, 21.0):
        yield Reading("roof", celsius)


async def main() -> None:
    weather = Weather()
    server = fastrpc.Server()
    server.register(weather)
    await server.start("tcp://127.0.0.1:0")

    async with fastrpc.connect(server.targets[0], timeout=10.0) as client:
        stub = client.stub(Weather)

        seen = 0
        async for reading in stub.readings("roof"):
            print("from the server:", reading)
            seen += 1
            if seen == 2:
                break  # the server's generator is closed
        await weather.closed.wait()

        print("to the server:  ", await stub.warmest(recorded()))
        print("both ways:      ", [mean async for mean in stub.smooth(recorded())])

        async with client.stream("Weather.smooth") as talk:  # the same by hand
            await talk.send(Reading("cellar", 12.0))
            await talk.send(Reading("cellar", 14.0))
            print("by hand:        ", await anext(talk))
            await talk.end()

    await server.aclose()


if __name__ == "__main__":
    asyncio.run(main())
