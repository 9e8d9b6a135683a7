"""A large array costs each side its own memory once: nowhere is it copied on its way.

A copy needs its source and its target at once, so it shows in the most memory that was
ever in use, whenever it is made. That holds for the compiled engine on uvloop; asyncio's
transports (before Python 3.12), the pure twin and `mem://` copy on the way, and are bounded.
"""

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrpc
import fastrpc.frame
from fastrpc.wire import BODY_MAX
from tests.server.serving import serving, target_of

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("both_twins")]

SIZE = 24 * 2**20  # bytes of an array
ROOM = {"max_body": SIZE + 2**16, "max_unsent": 2 * SIZE}
SLACK = SIZE // 8  # buffers of sockets, and all the rest


class Images:
    """Sees how much memory is in use while a call runs, since the last look."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def negative(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        self.seen.append(look())
        np.negative(image, out=image)  # it is the handler's own
        return image

    def drop(self, image: np.ndarray[Any, Any]) -> int:
        self.seen.append(look())
        return int(image[-1, -1])


def look() -> int:
    """Return the most memory in use since the last look, and begin anew."""
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    return peak


def copies(scheme: str) -> int:
    """Return how many copies there may be at once."""
    if not type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
        return 4  # those of asyncio, at both sides
    if fastrpc.frame.Lane.__module__.endswith("_py"):
        return 2
    return 1 if scheme == "mem" else 0


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("scheme", ["tcp", "unix", "mem"])
async def test_an_array_there_and_back_is_received_twice_and_copied_never(
    scheme: str, tmp_path: Path
) -> None:
    assert SIZE < BODY_MAX
    images, image = Images(), np.arange(SIZE // 8, dtype="i8").reshape(64, -1)
    async with (
        serving(images, target_of(scheme, tmp_path), **ROOM) as server,
        fastrpc.connect(server.targets[0], **ROOM) as client,
    ):
        await client.call("Images.drop", image[:8])  # whatever is made once
        images.seen.clear()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()

        result = await client.call("Images.negative", image)
        there, back = images.seen[0] - before, look() - before
        await asyncio.sleep(0)  # the server lets go of what it sent
        kept = tracemalloc.get_traced_memory()[0] - before

        assert result[-1, -1] == -image[-1, -1] != 0
        most = copies(scheme) * SIZE + SLACK
        assert SIZE <= there < SIZE + most  # the server's, no more
        assert 2 * SIZE <= back < 2 * SIZE + most  # and the caller's result
        assert SIZE <= kept < 2 * SIZE + SLACK
