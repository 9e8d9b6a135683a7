"""What workers had counted is not lost when they are gone, and not counted twice."""

from pathlib import Path

from fastrpc.server.workers.ledger import Ledger, add_up


def test_numbers_are_added_name_by_name() -> None:
    total: dict[str, object] = {}
    add_up(total, {"a": 1, "deep": {"x": 2.5}})
    add_up(total, {"a": 2, "deep": {"y": 1}, "b": 5})
    assert total == {"a": 3, "deep": {"x": 2.5, "y": 1}, "b": 5}


def test_what_those_had_counted_that_are_gone_is_added_up_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.gone() == (set(), {})
    ledger.write(0, 7, {"": {"calls": 5}})
    ledger.write(0, 7, {"": {"calls": 6}})
    assert ledger.read(0, 7) == {"": {"calls": 6}}
    assert ledger.read(0, 8) == {}  # it is another's
    ledger.add_gone(0, 7)
    ledger.add_gone(0, 7)
    assert ledger.gone() == ({7}, {"": {"calls": 6}})
    ledger.write(1, 8, {"": {"calls": 1}, "/mounted": {"calls": 2}})
    ledger.add_gone(1, 8)
    assert ledger.gone() == ({7, 8}, {"": {"calls": 7}, "/mounted": {"calls": 2}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone.json"]


def test_who_had_written_nothing_leaves_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.add_gone(3, 1)
    assert list(tmp_path.iterdir()) == []
