"""Consoles whose output can be looked at."""

import io

from rich.console import Console


def console(width: int | None) -> Console:
    """Return a terminal of that width, or a pipe."""
    return Console(
        file=io.StringIO(),
        width=width or 400,
        force_terminal=width is not None,
        color_system=None,
        highlight=False,
        markup=False,
        emoji=False,
    )


def text_of(shown: Console) -> str:
    """Return what was printed."""
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()
