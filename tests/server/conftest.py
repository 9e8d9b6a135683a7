from types import SimpleNamespace

import pytest

from fastrpc.session import ticker
from tests.server.serving import use_twin


@pytest.fixture
def both_twins(twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test on the compiled twin, then on the pure one."""
    use_twin(monkeypatch, twin)


@pytest.fixture
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers look after their connections every few milliseconds, not every second."""
    monkeypatch.setattr(ticker, "SLOW", 0.01)
