from collections.abc import Iterator

import pytest

from tests.cli.fleet import Fleet
from tests.cli.served import Background


@pytest.fixture(scope="session")
def background() -> Iterator[Background]:
    """Serve Arith and shout."""
    server = Background()
    yield server
    server.close()


@pytest.fixture
def target(background: Background) -> str:
    """Give the target of the server."""
    return background.target


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """Give a registry with two servers of Arith."""
    fleet = Fleet()
    yield fleet
    fleet.close()
