"""Keep the ends of each way running as long as the benchmarks need them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from bench.loop.ways import Drive, Way, open_way


@pytest.fixture(scope="session")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Way], Drive]]:
    """Give a function that returns, for a way, what makes calls on it."""
    folder = tmp_path_factory.mktemp("loop")
    known: dict[Way, Drive] = {}
    with ExitStack() as running:

        def open_once(way: Way) -> Drive:
            if way not in known:
                known[way] = open_way(way, folder, running)
            return known[way]

        yield open_once
