from types import SimpleNamespace

import pytest

from tests.server.serving import use_twin


@pytest.fixture
def both_twins(twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test on the compiled twin, then on the pure one."""
    use_twin(monkeypatch, twin)
