"""What the benchmarks share: the twins, and quiet measuring."""

from types import SimpleNamespace

import pytest

from bench.twins import TWINS, open_twin


@pytest.fixture(scope="session", params=TWINS)
def twin(request: pytest.FixtureRequest) -> SimpleNamespace:
    """Give one twin after the other; a compiled one that is missing is an error, never a skip."""
    return open_twin(request.param)
