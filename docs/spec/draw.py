"""Draw the parts of the specification that are made from data.

Run `python -m docs.spec.draw` in the root of the project after a change to
`fastrpc/protocol/states.py` or to `tests/vectors/golden.json`. A test fails as
long as a page is not what this script would write.
"""

import json
import re
from pathlib import Path
from textwrap import wrap
from typing import Any

from fastrpc.protocol.states import TRANSITIONS, Input, State

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

_BLOCK = re.compile(r"(?s)(<!-- drawn: (\w+) -->\n).*?(<!-- /drawn -->)")
_WORDS_PER_LINE = 8


def vectors(kind: str) -> str:
    """Return the golden frames of *kind* as a code block."""
    entries = json.loads((ROOT / "tests" / "vectors" / "golden.json").read_text())[kind]
    return "```\n" + "\n".join(_frame(entry) for entry in entries) + "\n```\n"


def _frame(entry: dict[str, Any]) -> str:
    lines = [f"{entry['name']}{': ' + entry['at'] if 'at' in entry else ''}"]
    lines += wrap(entry["note"], 100, initial_indent="  # ", subsequent_indent="  # ")
    data = bytes.fromhex(entry["hex"])
    head = int.from_bytes(data[2:4], "big")
    # A bad header says nothing about where its body starts.
    parts = [data[:head], data[head:]] if 20 <= head <= len(data) else [data]
    for part in parts:
        words = [part[at : at + 4].hex() for at in range(0, len(part), 4)]
        lines += [
            "  " + " ".join(words[at : at + _WORDS_PER_LINE])
            for at in range(0, len(words), _WORDS_PER_LINE)
        ]
    return "\n".join(lines)


def states() -> str:
    """Return the state table: a row per state, a column per input."""
    rows = [["", *(event.value for event in Input)], ["---"] * (len(Input) + 1)]
    for state in State:
        after = (TRANSITIONS.get((state, event)) for event in Input)
        rows.append([f"**{state.value}**", *(to.value if to else "-" for to in after)])
    return "\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows) + "\n"


def diagram() -> str:
    """Return the transitions that change the state, as a Mermaid diagram."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for (before, event), after in TRANSITIONS.items():
        if before is not after:
            arrows.setdefault((before, after), []).append(event.value)
    lines = [
        f"    {before.value} --> {after.value}: {', '.join(events)}"
        for (before, after), events in arrows.items()
    ]
    start, end = State.CONNECTING.value, State.CLOSED.value
    body = "\n".join([f"    [*] --> {start}", *lines, f"    {end} --> [*]"])
    return f"\n```mermaid\nstateDiagram-v2\n{body}\n```\n\n"


def draw(text: str) -> str:
    """Return the page *text* with its drawn blocks as they should be."""

    def block(match: re.Match[str]) -> str:
        what = match[2]
        drawn = {"states": states, "diagram": diagram}.get(what)
        return match[1] + (drawn() if drawn else vectors(what)) + match[3]

    return _BLOCK.sub(block, text)


def main() -> None:
    """Rewrite the pages beside this script."""
    for page in sorted(HERE.glob("*.md")):
        page.write_text(draw(page.read_text()))


if __name__ == "__main__":
    main()
