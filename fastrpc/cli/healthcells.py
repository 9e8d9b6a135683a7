"""Show what a server says of its health: the same in `ls` and in `top`."""

from typing import Final

from fastrpc.cli.asking import Health
from fastrpc.cli.columns import Cell
from fastrpc.cli.report import duration

_BUSY: Final = 0.8  # of the limit


def state_cell(answer: Health) -> Cell:
    """Return how a server says that it is, in a word or two."""
    if answer.overloaded:
        return Cell("overloaded", "bold yellow")
    return Cell(answer.state, "green" if answer.state == "serving" else "yellow")


def is_busy(answer: Health) -> bool:
    """Say whether nearly as many calls are in flight as may be."""
    return bool(answer.limit) and answer.running >= _BUSY * answer.limit


def lag_cell(lag: float) -> Cell:
    """Return how late a loop is: 50 ms are felt by callers, half a second is a fault."""
    style = "bold red" if lag >= 0.5 else "yellow" if lag >= 0.05 else ""
    return Cell(duration(lag) if lag >= 1e-6 else "0", style)
