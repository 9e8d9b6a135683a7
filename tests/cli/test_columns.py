import pytest
from rich.cells import cell_len

from fastrpc.cli.columns import Cell, Column, cut, lay_out

NAME = Column("NAME", least=6)
COUNT = Column("COUNT", is_number=True)
ZONE = Column("ZONE", rank=1)
NOTE = Column("NOTE", rank=2)


def lines(columns: list[Column], rows: list[list[str]], width: int | None) -> list[str]:
    cells = [[Cell(text) for text in row] for row in rows]
    return [line.plain for line in lay_out(columns, cells, width)]


def test_columns_are_as_wide_as_what_is_in_them() -> None:
    assert lines([NAME, COUNT], [["a", "1"], ["longer", "1,000"]], None) == [
        "NAME    COUNT",
        "a           1",
        "longer  1,000",
    ]


def test_an_empty_column_is_left_out() -> None:
    always = Column("ALWAYS", is_always=True)
    assert lines([NAME, ZONE, always], [["a", "", ""]], None) == ["NAME  ALWAYS", "a"]
    assert lines([NAME, ZONE], [], None) == ["NAME  ZONE"]


def test_what_changes_does_not_dance() -> None:
    wide = Column("P50", is_number=True, most_often=7)
    assert lines([wide], [["1 s"]], None) == ["    P50", "    1 s"]


def test_the_least_important_goes_first_and_then_texts_are_cut() -> None:
    rows = [["instance-0123456789", "5", "eu-1", "a note"]]
    columns = [NAME, COUNT, ZONE, NOTE]
    assert lines(columns, rows, 100)[0].split() == ["NAME", "COUNT", "ZONE", "NOTE"]
    assert lines(columns, rows, 27)[0].split() == ["NAME", "COUNT", "ZONE", "NOTE"]
    assert lines(columns, rows, 20)[0].split() == ["NAME", "COUNT", "ZONE"]
    assert lines(columns, rows, 16) == ["NAME       COUNT", "inst…6789      5"]
    assert lines(columns, rows, 5) == ["NAME    COUNT", "in…789      5"]  # what matters stays


@pytest.mark.parametrize("width", range(13, 40))
def test_lines_fit_where_they_can(width: int) -> None:
    rows = [["instance-0123456789", "5", "eu-1", "a note"], ["日本語日本語日本語", "6", "", ""]]
    shown = lines([NAME, COUNT, ZONE, NOTE], rows, width)
    assert max(map(cell_len, shown)) <= width


def test_a_cut_text_keeps_its_ends() -> None:
    assert cut("127.0.0.1-7000-abc", 9) == "127.…-abc"
    assert cut("short", 5) == "short"
    assert cell_len(cut("日本語日本語", 6)) <= 6
