"""Lay out rows in columns that fit: for terminals of any width, and whole for pipes.

Rules of the room:
  * a column where no row has anything is left out;
  * on a terminal that is too narrow the least important columns go first, then the widest
    texts are cut in the middle, where they differ least; a pipe gets everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from rich.cells import cell_len
from rich.text import Text

_GAP: Final = 2


@final
@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: What stands above it.
        is_number: Whether it is aligned to the right.
        rank: What may be left out: the highest goes first, 0 never does.
        least: Cells to which its texts may be cut; 0 if they may not.
        is_always: Whether it is there if all of it is empty.
        most_often: Cells it has if that is enough, so that what changes doesn't dance.
    """

    name: str
    is_number: bool = False
    rank: int = 0
    least: int = 0
    is_always: bool = False
    most_often: int = 0


@final
@dataclass(frozen=True, slots=True)
class Cell:
    """One text of a row, and how it looks."""

    text: str = ""
    style: str = ""


Row = Sequence[Cell]


def lay_out(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> list[Text]:
    """Return the head and one line for each of *rows*.

    Args:
        columns: What they have.
        rows: With a cell for each of the columns.
        width: Most cells of a line; None for as many as it takes.
    """
    widths = [
        max(
            [cell_len(column.name), column.most_often, *(cell_len(row[place].text) for row in rows)]
        )
        for place, column in enumerate(columns)
    ]
    places = [
        place
        for place, column in enumerate(columns)
        if column.is_always or not rows or any(row[place].text for row in rows)
    ]
    if width is not None:
        places = _fitting(columns, widths, places, width)
    head = _line([Cell(columns[each].name, "dim") for each in places], columns, widths, places)
    lines = [_line([row[each] for each in places], columns, widths, places) for row in rows]
    for line in [head, *lines]:
        line.rstrip()
    return [head, *lines]


def _fitting(
    columns: Sequence[Column], widths: list[int], places: list[int], width: int
) -> list[int]:
    """Return which of *places* stay; *widths* of those that can shrink are changed."""
    kept = list(places)

    def over() -> int:
        return sum(widths[each] + _GAP for each in kept) - _GAP - width

    while over() > _spare(columns, widths, kept):
        goes = max(kept, key=lambda each: columns[each].rank)
        if not columns[goes].rank:
            break
        kept.remove(goes)
    while over() > 0:
        shrinking = [each for each in kept if 0 < columns[each].least < widths[each]]
        if not shrinking:
            break
        widths[max(shrinking, key=lambda each: widths[each])] -= 1
    return kept


def _spare(columns: Sequence[Column], widths: Sequence[int], kept: Sequence[int]) -> int:
    """Return how many cells can be saved by cutting texts."""
    return sum(max(widths[e] - columns[e].least, 0) for e in kept if columns[e].least)


def _line(
    cells: Sequence[Cell], columns: Sequence[Column], widths: Sequence[int], places: Sequence[int]
) -> Text:
    line = Text(no_wrap=True, overflow="crop")
    for number, (cell, place) in enumerate(zip(cells, places, strict=True)):
        text = cut(cell.text, widths[place])
        free = " " * (widths[place] - cell_len(text))
        is_last = number == len(cells) - 1
        if columns[place].is_number:
            line.append(free)
        line.append(text, style=cell.style)
        if not is_last:
            line.append(" " * _GAP if columns[place].is_number else free + " " * _GAP)
    return line


def cut(text: str, width: int) -> str:
    """Return *text* in at most so many cells; what is left away is the middle."""
    if cell_len(text) <= width:
        return text
    head = (width - 1) // 2
    tail = width - 1 - head
    short = f"{text[:head]}…{text[len(text) - tail :]}"
    return short if cell_len(short) <= width else short[: width // 2]  # wide characters
