"""No module outgrows its budget: god files begin with one exception."""

import re
from pathlib import Path

import pytest

from tests.arch.source import MODULES, PYX, name_of

CAP = 500
PYX_CAP = 900
# A larger budget stands in the file it is for, in the docstring, with its reason:
# "Size: may grow to 620, because the table below is one thing."
RAISED = re.compile(r"^Size: .*?\b(\d+)\b.*\b(?:because|for) \S", re.MULTILINE)


def budget(text: str, cap: int) -> int:
    raised = RAISED.search(text)
    return int(raised[1]) if raised else cap


@pytest.mark.parametrize("path", [*MODULES, *PYX], ids=name_of)
def test_module_keeps_to_its_budget(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    allowed = budget(text, PYX_CAP if path in PYX else CAP)
    assert lines <= allowed, f"{name_of(path)} has {lines} lines, its budget is {allowed}: split it"


def test_raising_a_budget_needs_a_reason() -> None:
    assert budget("Size: may grow to 620, because it is one table.", CAP) == 620
    assert budget("Size: 620 lines", CAP) == CAP
    assert budget("Size: may grow to 620, because ", CAP) == CAP
