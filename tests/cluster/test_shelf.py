"""The file of a list: whole or not at all, and never believed too easily."""

import asyncio
import logging
import os
from pathlib import Path

import pytest

import fastrpc
from fastrpc.cluster import Instance, InstanceState
from fastrpc.cluster import shelf as shelf_module
from fastrpc.cluster.shelf import Shelf, read_shelf, write_shelf

ONE = Instance(
    id="a", addresses=("tcp://10.0.0.1:7000", "unix:///run/a"), weight=2.5, zone="eu-1",
    version="2", group="eu", tags=(("k", "v"),), state=InstanceState.DRAINING,
)  # fmt: skip
TWO = Instance(id="b", addresses=("tcp://10.0.0.2:7000",))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop.instances"


def test_what_is_written_is_read(path: Path) -> None:
    write_shelf(path, "Shop", (ONE, TWO))
    assert read_shelf(path, "Shop") == (ONE, TWO)
    write_shelf(path, "Shop", (TWO,))
    assert read_shelf(path, "Shop") == (TWO,)
    assert os.listdir(path.parent) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_write_that_fails_leaves_the_list_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shelf(path, "Shop", (ONE,))

    def full(number: int) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_shelf(path, "Shop", (ONE, TWO))
    assert read_shelf(path, "Shop") == (ONE,)
    assert os.listdir(path.parent) == [path.name]


def test_a_list_that_is_too_long_is_not_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shelf(path, "Shop", (ONE,))
    size = path.stat().st_size
    monkeypatch.setattr(shelf_module, "SHELF_MAX", size)
    assert read_shelf(path, "Shop") == (ONE,)
    write_shelf(path, "Shop", (ONE,))
    monkeypatch.setattr(shelf_module, "SHELF_MAX", size - 1)
    with pytest.raises(fastrpc.CodecError, match="over"):
        read_shelf(path, "Shop")
    with pytest.raises(fastrpc.CodecError, match="over"):
        write_shelf(path, "Shop", (ONE,))


def test_each_damage_is_noticed(path: Path) -> None:
    write_shelf(path, "Shop", (ONE, TWO))
    text = path.read_bytes()
    for end in range(0, len(text), 3):
        path.write_bytes(text[:end])
        with pytest.raises(fastrpc.CodecError):
            read_shelf(path, "Shop")
    for place in range(0, len(text), 3):
        path.write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        with pytest.raises(fastrpc.CodecError):
            read_shelf(path, "Shop")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no list"),
        (b"[" * 5000, "no list"),
        (b'{"format": "fastrpc instances 9", "service": "Shop", "count": 0, "crc32": 0}\n', "format"),
        (b'{"format": "fastrpc instances 1", "service": "Cars", "count": 0, "crc32": 0}\n', "Cars"),
        (b'{"format": "fastrpc instances 1", "service": "Shop", "count": 9, "crc32": 0}\n', "damaged"),
    ],
)  # fmt: skip
def test_a_file_of_something_else(path: Path, text: bytes, words: str) -> None:
    path.write_bytes(text)
    with pytest.raises(fastrpc.CodecError, match=words):
        read_shelf(path, "Shop")


def test_places_that_are_no_files(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(fastrpc.CodecError, match="plain file"):
        read_shelf(path, "Shop")
    with pytest.raises(OSError, match="directory"):
        read_shelf(path.parent, "Shop")


@pytest.mark.parametrize("mode", [0o666, 0o660, 0o606])
def test_a_file_that_others_may_write_to(path: Path, mode: int) -> None:
    write_shelf(path, "Shop", (ONE,))
    path.chmod(0o644)
    assert read_shelf(path, "Shop") == (ONE,)
    path.chmod(mode)
    with pytest.raises(fastrpc.CodecError, match="others than its owner"):
        read_shelf(path, "Shop")


def test_a_file_of_somebody_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shelf(path, "Shop", (ONE,))
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner == 0:  # root's files are trusted
        os.chown(path, 4711, -1)
    with pytest.raises(fastrpc.CodecError, match="somebody else"):
        read_shelf(path, "Shop")


def test_lines_of_a_later_version_are_left_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def later(instance: Instance) -> bytes:
        return b'{"id": "x"}' if instance is ONE else plain(instance)

    plain = shelf_module.encode_instance
    monkeypatch.setattr(shelf_module, "encode_instance", later)
    write_shelf(path, "Shop", (ONE, TWO))
    assert read_shelf(path, "Shop") == (TWO,)


@pytest.mark.asyncio
async def test_many_changes_are_few_writes(path: Path) -> None:
    shelf = Shelf(path, "Shop")
    for n in range(50):
        shelf.put((ONE, Instance(id=f"i{n}", addresses=("tcp://a:1",))))
        await asyncio.sleep(0.001)
    await shelf.aclose()
    assert [each.id for each in read_shelf(path, "Shop")] == ["a", "i49"]
    assert shelf.writes == 2  # the first at once, the last at the end


@pytest.mark.asyncio
async def test_what_is_there_is_not_written_again(path: Path) -> None:
    write_shelf(path, "Shop", (ONE,))
    before = path.stat().st_ino
    shelf = Shelf(path, "Shop")
    assert await shelf.read() == (ONE,)
    shelf.put((ONE,))
    shelf.put(())  # an empty list is none worth keeping
    await shelf.aclose()
    shelf.put((TWO,))  # too late
    assert (shelf.writes, path.stat().st_ino) == (0, before)


@pytest.mark.asyncio
async def test_trouble_with_the_disk_is_told_of_once(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf_module, "EVERY", 0.001)
    shelf = Shelf(path.parent / "nowhere" / "shop", "Shop")
    assert await shelf.read() == ()  # there is none: nothing to say
    with caplog.at_level(logging.WARNING, "fastrpc.cluster"):
        for each in (ONE, TWO, ONE):
            shelf.put((each,))
            await asyncio.sleep(0.01)
        await shelf.aclose()
    assert ["can't be written" in each.getMessage() for each in caplog.records] == [True]


@pytest.mark.asyncio
async def test_closing_that_is_cancelled_leaves_no_task(path: Path) -> None:
    before = asyncio.all_tasks()
    shelf = Shelf(path, "Shop")
    shelf.put((ONE,))
    closing = asyncio.ensure_future(shelf.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait((closing,))
    async with asyncio.timeout(5):
        while asyncio.all_tasks() != before:
            await asyncio.sleep(0.001)
