import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fastrpc.cluster.registrar import store as store_module
from fastrpc.cluster.registrar.leases import Row
from fastrpc.cluster.registrar.run import Registrar
from fastrpc.cluster.registrar.store import MEMORY, Store, StoreFailed
from fastrpc.errors import ConfigError

ROW = Row(b"text", "me", 15.0)


def file_of(folder: Path) -> str:
    return str(folder / "registry.db")


@pytest.mark.asyncio
async def test_what_is_settled_is_there_for_the_next_process(tmp_path: Path) -> None:
    store = Store(file_of(tmp_path))
    assert store.load() == []
    for number in range(100):
        store.put(("p/s", f"x{number}"), ROW)
    store.put(("p/s", "x1"), ROW._replace(text=b"\x00\xff"))
    store.remove(("p/s", "x2"))
    for number in range(100):
        await store.settle(("p/s", f"x{number}"))
    assert store.waiting == 0
    # As a process that is killed leaves it: nothing was closed, and the lock goes with it.
    copy = tmp_path / "copy.db"
    for name in ("", "-wal"):
        (tmp_path / f"copy.db{name}").write_bytes(Path(file_of(tmp_path) + name).read_bytes())
    other = Store(str(copy))
    kept = {id: row for _, id, row in other.load()}
    other.close()
    store.close()
    assert len(kept) == 99
    assert "x2" not in kept
    assert kept["x1"] == Row(b"\x00\xff", "me", 15.0)
    assert kept["x0"] == ROW


@pytest.mark.asyncio
async def test_closing_writes_what_waits(tmp_path: Path) -> None:
    store = Store(file_of(tmp_path))
    store.put(("p/s", "x"), ROW)
    store.close()
    store.close()
    store.put(("p/s", "late"), ROW)  # by a handler that would not end: of no use, no harm
    again = Store(file_of(tmp_path))
    assert again.load() == [("p/s", "x", ROW)]
    again.close()


@pytest.mark.asyncio
async def test_changes_go_out_in_batches_and_the_last_word_counts() -> None:
    store = Store(MEMORY)
    batches: list[dict[tuple[str, str], Row | None]] = []
    write, gate = store._write, threading.Event()

    def slow(batch: dict[tuple[str, str], Row | None]) -> None:
        assert gate.wait(10)
        batches.append(dict(batch))
        write(batch)

    store._write = slow  # type: ignore[method-assign]
    store.put(("p/s", "first"), ROW)
    await asyncio.sleep(0)  # it is being written
    for number in range(50):
        store.put(("p/s", "x"), ROW._replace(ttl=1.0 + number))
        store.put(("p/s", "y"), ROW)
    store.remove(("p/s", "y"))
    assert store.waiting == 3
    gate.set()
    await store.settle(("p/s", "x"))
    assert [list(batch) for batch in batches] == [[("p/s", "first")], [("p/s", "x"), ("p/s", "y")]]
    assert [id for _, id, _ in store.load()] == ["first", "x"]
    store.close()


@pytest.mark.asyncio
async def test_what_cannot_be_written_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_module, "_RETRY", 0.0)
    store = Store(MEMORY)
    write, failures = store._write, 3

    def full(batch: dict[tuple[str, str], Row | None]) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise sqlite3.OperationalError("database or disk is full")
        write(batch)

    store._write = full  # type: ignore[method-assign]
    store.put(("p/s", "x"), ROW)
    for _ in range(3):
        with pytest.raises(StoreFailed, match="disk is full"):
            await store.settle(("p/s", "x"))
    await store.settle(("p/s", "x"))
    assert store.load() == [("p/s", "x", ROW)]
    store.close()


@pytest.mark.asyncio
async def test_who_gives_up_waiting_stops_nothing() -> None:
    store = Store(MEMORY)
    store.put(("p/s", "x"), ROW)
    waiting = asyncio.ensure_future(store.settle(("p/s", "x")))
    await asyncio.sleep(0)
    waiting.cancel()
    await store.settle(("p/s", "x"))
    assert store.load() == [("p/s", "x", ROW)]
    assert waiting.cancelled()
    store.close()


@pytest.mark.asyncio
async def test_a_full_disk_at_the_end_is_told_and_stops_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stray_threads: Callable[[], list[str]],
) -> None:
    store = Store(file_of(tmp_path))

    def full(batch: object) -> None:
        raise sqlite3.OperationalError("disk is full")

    monkeypatch.setattr(store, "_write", full)
    store.put(("p/s", "x"), ROW)
    store.close()
    assert "1 changes could not be kept: disk is full" in caplog.text
    assert stray_threads() == []


@pytest.mark.asyncio
async def test_a_file_that_is_taken_away_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(file_of(tmp_path))
    store.put(("p/s", "x"), ROW)
    await store.settle(("p/s", "x"))
    assert caplog.text == ""
    Path(file_of(tmp_path)).unlink()
    for number in range(3):
        store.put(("p/s", f"x{number}"), ROW)
        await store.settle(("p/s", f"x{number}"))
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "registry.db is gone" in caplog.text
    store.close()


@pytest.mark.asyncio
async def test_what_is_taken_back_while_it_is_written_is_written_back() -> None:
    store = Store(MEMORY)
    write, gate = store._write, threading.Event()

    def slow(batch: dict[tuple[str, str], Row | None]) -> None:
        assert gate.wait(10)
        write(batch)

    store._write = slow  # type: ignore[method-assign]
    for id, before in (("new", None), ("old", ROW)):
        store.put(("p/s", id), ROW._replace(text=b"refused"))
        await asyncio.sleep(0)  # it is being written
        store.take_back(("p/s", id), before)
    gate.set()
    for id in ("new", "old"):
        await store.settle(("p/s", id))
    assert [row for _, id, row in store.load() if id == "new"] == []
    store.close()


def test_a_broken_page_is_a_file_that_cannot_be_used(
    tmp_path: Path, stray_threads: Callable[[], list[str]]
) -> None:
    Store(file_of(tmp_path)).close()
    base = sqlite3.connect(file_of(tmp_path))
    rows = [("p/s", f"x{number}", b"t" * 1000, "me", 15.0) for number in range(100)]
    base.executemany("insert into entry values (?, ?, ?, ?, ?)", rows)
    base.commit()
    base.close()
    path = Path(file_of(tmp_path))
    whole = path.read_bytes()  # its first pages are kept, so that it opens
    path.write_bytes(whole[:8192] + b"\x99" * (len(whole) - 8192))
    with pytest.raises(ConfigError, match=r"registry file .*db: database disk image"):
        Registrar(file_of(tmp_path))
    assert stray_threads() == []


def test_one_file_belongs_to_one_process(tmp_path: Path) -> None:
    store = Store(file_of(tmp_path))
    with pytest.raises(ConfigError, match=r"registry\.db: database is locked"):
        Store(file_of(tmp_path))
    store.close()
    Store(file_of(tmp_path)).close()


@pytest.mark.parametrize("what", ["rubbish", "other", "later", "folder", "nowhere"])
def test_a_file_that_is_none_of_ours_is_refused_and_left_alone(
    what: str, tmp_path: Path, stray_threads: Callable[[], list[str]]
) -> None:
    path = tmp_path / "registry.db"
    if what == "rubbish":
        path.write_bytes(b"this is not a database, it is a letter to my aunt" * 100)
    elif what == "folder":
        path.mkdir()
    elif what == "nowhere":
        path = tmp_path / "not" / "there.db"
    else:
        base = sqlite3.connect(path)
        base.execute("create table song (title text)")
        if what == "later":
            base.execute(f"pragma application_id = {store_module._OURS}")
            base.execute("pragma user_version = 99")
        base.close()
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(ConfigError, match="registry file .*db: "):
        Store(str(path))
    assert (path.read_bytes() if path.is_file() else None) == before
    assert stray_threads() == []
