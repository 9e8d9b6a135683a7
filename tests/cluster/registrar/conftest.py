import threading
from collections.abc import Callable

import pytest


@pytest.fixture
def stray_threads() -> Callable[[], list[str]]:
    """Give what lists the threads of registry files that are there since the test began."""
    before = set(threading.enumerate())

    def stray() -> list[str]:
        new = set(threading.enumerate()) - before
        return [each.name for each in new if "fastrpc-registry" in each.name]

    return stray
