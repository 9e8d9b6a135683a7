from collections.abc import Iterator

import pytest

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
