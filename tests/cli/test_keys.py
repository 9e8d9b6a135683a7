import asyncio
import io
import os
import pty
import sys
import termios
from collections.abc import Iterator
from io import FileIO

import pytest

from fastrpc.cli.keys import keys

pytestmark = pytest.mark.asyncio


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileIO]:
    """Give what a person types on; standard input is the terminal's other end."""
    person, terminal = pty.openpty()
    # As a file, for that closes its number once: the second time it may be somebody else's.
    with open(terminal, encoding="utf-8") as stdin, FileIO(person, "wb") as keys:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield keys


async def test_keys_are_heard_one_by_one(keyboard: FileIO) -> None:
    before = termios.tcgetattr(sys.stdin)
    heard: asyncio.Queue[str] = asyncio.Queue()
    with keys(heard.put_nowait) as has_keys:
        assert has_keys
        assert termios.tcgetattr(sys.stdin) != before
        keyboard.write("pé".encode())
        assert await heard.get() == "p"
        keyboard.write(b"q")
        assert await heard.get() == "q"
    assert termios.tcgetattr(sys.stdin) == before


async def test_the_terminal_is_given_back_after_a_failure(keyboard: FileIO) -> None:
    before = termios.tcgetattr(sys.stdin)
    with pytest.raises(ZeroDivisionError), keys(lambda key: None):
        raise ZeroDivisionError
    assert termios.tcgetattr(sys.stdin) == before


async def test_without_a_terminal_there_are_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("q"))
    with keys(lambda key: None) as has_keys:
        assert not has_keys


async def test_a_terminal_that_goes_away_is_read_no_more(
    keyboard: FileIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = asyncio.Event()
    real = os.read

    def reading(source: int, most: int) -> bytes:
        read.set()
        return real(source, most)

    with keys(lambda key: None):
        monkeypatch.setattr(os, "read", reading)
        keyboard.close()
        await read.wait()
        await asyncio.sleep(0)
        assert not asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
