"""The player of examples notices what is not as the page says."""

import sys
from pathlib import Path

import pytest

from tests.docs.pages import Block, blocks, runnable, table
from tests.docs.play import PlayError, check_output, check_prints, commands, play, promises


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put back what playing a page changes in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setitem(sys.modules, "page", None)


def test_blocks_are_cut_out() -> None:
    text = "words\n```python\na\n\nb\n```\n```text\n```python inside\n```\n"
    assert blocks(text) == [
        Block("python", "a\n\nb\n", 3),
        Block("text", "```python inside\n", 8),
    ]
    assert [block.line for block in runnable(text)] == [3]
    with pytest.raises(ValueError, match="does not end"):
        blocks("```python\n")


@pytest.mark.parametrize(
    ("first", "name"),
    [("# arith.py", "arith.py"), ("# a comment", ""), ("x = 1  # arith.py", ""), ("", "")],
)
def test_a_first_line_may_name_a_file(first: str, name: str) -> None:
    assert Block("python", f"{first}\nmore\n", 1).file == name


def test_tables_are_read() -> None:
    text = "<!-- table: t -->\n\n| a | b |\n|---|---|\n| `x \\| y` | |\n\n| other |"
    assert table(text, "t") == [["`x \\| y`", ""]]


def test_promises_and_prints() -> None:
    assert promises("print(1)  # -> 1\nx = 2  # -> not so\n# -> ...\n") == ["1", "not so", "..."]
    check_prints(["1", "a...c", ""], "0\n1\nb\na b c\n\n")
    for promised in (["2"], ["1", "0"], ["0 1"]):
        with pytest.raises(PlayError):
            check_prints(promised, "0\n1\n")


def test_commands_and_outputs() -> None:
    told = commands("$ one \\\n  two\nout\n$ three\n")
    assert [(command.words.split(), command.promised) for command in told] == [
        (["one", "two"], ["out"]),
        (["three"], []),
    ]
    with pytest.raises(PlayError, match="must begin"):
        commands("out\n")
    check_output([], "anything\n")
    check_output(["a ... c", "...", "z"], "a  b c\n1\n2\nz\n")
    check_output(["..."], "")
    for promised in (["a"], ["a", "b", "c"], ["b"], ["...", "c"]):
        with pytest.raises(PlayError):
            check_output(promised, "a\nb\n")


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.usefixtures("surroundings")
async def test_a_page_is_one_module_with_one_loop() -> None:
    text = """
~~~python
import asyncio
from pathlib import Path
task = asyncio.ensure_future(asyncio.sleep(0, "slept"))
~~~
~~~python
print(await task)  # -> slept
Path("/tmp/seen").write_text("7001\\n")
~~~
~~~python
# made.py
print("made")  # -> made
~~~
~~~console
$ cat /tmp/seen
7001
$ (exit 3)
$ echo $?
3
~~~
"""
    await play("page.md", text.replace("~~~", "```"))


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("~~~python\nprint(1)  # -> 2\n~~~", "promised is\n  2"),
        ("\n~~~python\n1 / 0\n~~~", "division by zero"),
        ("~~~console\n$ echo 1\n2\n~~~", "promised is\n  2"),
        ("~~~console\n$ (exit 3)\n~~~", "ended with 3"),
        (
            "~~~python\nimport asyncio\nleft = asyncio.ensure_future(asyncio.sleep(9))\n~~~",
            "leaves something running",
        ),
    ],
)
@pytest.mark.usefixtures("surroundings")
async def test_what_does_not_hold_is_told(text: str, words: str) -> None:
    with pytest.raises((PlayError, ZeroDivisionError)) as caught:
        await play("page.md", text.replace("~~~", "```"))
    assert words in str(caught.value)
