"""What the compiled twin imports: import-linter can't see it, so we look ourselves."""

import re
from pathlib import Path

import pytest

from tests.arch.source import PYX, name_of

ALLOWED = re.compile(r"fastrpc\.(errors|wire)(\.\w+)*|cython|cpython(\.\w+)*|libc(\.\w+)*")
# Inside the twin callers and streams stand on the lane and that on the frames, not the reverse.
ALSO = {
    "_lane.pyx": re.compile(r"fastrpc\._frame(\.\w+)*"),
    "_stream.pyx": re.compile(r"fastrpc\._(frame|lane)(\.\w+)*|collections"),
    "_chain.pyx": re.compile(r"fastrpc\._(caller|lane)(\.\w+)*|asyncio(\.tasks)?"),
    "_pick.pyx": re.compile(r"fastrpc\._(caller|lane)(\.\w+)*"),
    "_caller.pyx": re.compile(r"fastrpc\._lane(\.\w+)*|threading"),
}
FROM = re.compile(r"\s*from\s+([.\w]+)\s+c?import\s+\(?\s*(.*)")
PLAIN = re.compile(r"\s*c?import\s+(.+)")
TEXTUAL = re.compile(r"\s*(include\s+['\"]|DEF\s+\w|IF\s+.*:)")


def without_prose(text: str) -> str:
    """Blank out docstrings and comments: they may say import."""
    text = re.sub(r'"""(?:[^\\]|\\.)*?"""', '""', text, flags=re.DOTALL)
    return re.sub(r"#.*", "", text)


def imported(text: str) -> list[str]:
    """List what is imported; for `from fastrpc import wire` that is fastrpc.wire."""
    names: list[str] = []
    for line in without_prose(text).splitlines():
        if match := FROM.match(line):
            inner = [part.split()[0] for part in match[2].rstrip(" )").split(",") if part.strip()]
            names += [f"fastrpc.{name}" for name in inner] if match[1] == "fastrpc" else [match[1]]
        elif match := PLAIN.match(line):
            names += [part.split()[0] for part in match[1].split(",")]
    return names


def stray(text: str, also: re.Pattern[str] | None = None) -> list[str]:
    return [
        name
        for name in imported(text)
        if not (ALLOWED.fullmatch(name) or (also and also.fullmatch(name)))
    ]


def test_there_is_a_compiled_twin_to_look_at() -> None:
    assert "_frame.pyx" in [path.name for path in PYX]


@pytest.mark.parametrize("path", PYX, ids=name_of)
def test_the_compiled_twin_imports_downwards_only(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    index = path.with_suffix(".pxd")
    if index.exists():
        text += index.read_text(encoding="utf-8")
    assert {"cython", "libc.stdint"} <= set(imported(text))  # the search finds what is there
    assert stray(text, ALSO.get(path.name)) == []


@pytest.mark.parametrize("path", PYX, ids=name_of)
def test_the_compiled_twin_is_plain_text(path: Path) -> None:
    lines = without_prose(path.read_text(encoding="utf-8")).splitlines()
    assert [line for line in lines if TEXTUAL.match(line)] == []


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("import asyncio", ["asyncio"]),
        ("    import os.path as path, time", ["os.path", "time"]),
        ("from fastrpc import wire, client", ["fastrpc.client"]),
        ("from fastrpc import (session as s)", ["fastrpc.session"]),
        ("from fastrpc.client import Client", ["fastrpc.client"]),
        ("from .client import Client", [".client"]),
        ("from fastrpc._frame cimport Frame", ["fastrpc._frame"]),
        ("cimport numpy", ["numpy"]),
        ("from fastrpc.errors import FrameError", []),
        ("from fastrpc.errors import (", []),
        ("from cpython.bytes cimport PyBytes_AS_STRING", []),
        ("from libc.stdint cimport uint32_t", []),
        ("cimport cython", []),
        ('"""\nimport asyncio\n"""', []),
        ("# import asyncio", []),
    ],
)
def test_the_search_sees_each_form(line: str, names: list[str]) -> None:
    assert stray(line) == names
