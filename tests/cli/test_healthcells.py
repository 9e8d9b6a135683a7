import pytest

from fastrpc.cli.asking import Health
from fastrpc.cli.healthcells import is_busy, lag_cell, state_cell


def test_states() -> None:
    assert state_cell(Health(state="serving")).style == "green"
    assert state_cell(Health(state="draining")).style == "yellow"
    assert state_cell(Health(state="serving", overloaded=True)).text == "overloaded"


def test_busy_is_near_the_limit() -> None:
    assert not is_busy(Health(state="serving", running=79, limit=100))
    assert is_busy(Health(state="serving", running=80, limit=100))
    assert not is_busy(Health(state="serving"))  # who tells no limit


@pytest.mark.parametrize(
    ("lag", "text", "style"),
    [
        (0.0, "0", ""),
        (1e-9, "0", ""),
        (0.004, "4.00 ms", ""),
        (0.05, "50.0 ms", "yellow"),
        (2.0, "2.00 s", "bold red"),
    ],
)
def test_lags(lag: float, text: str, style: str) -> None:
    cell = lag_cell(lag)
    assert (cell.text, cell.style) == (text, style)
