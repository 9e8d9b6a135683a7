import pytest

from fastrpc.session import ticker


@pytest.fixture
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers look after their connections every few milliseconds, not every second."""
    monkeypatch.setattr(ticker, "SLOW", 0.01)
