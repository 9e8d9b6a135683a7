"""Draw the parts of docs/architecture.md that are made from the code.

Run `python -m docs.house` in the root of the project after a room or module came, went
or changed its caption. A test fails as long as the page is not what this script would
write.
"""

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = ROOT / "fastrpc"

#: One storey in words, several for the linter: a twin's callers and streams stand on its lane, and
#: that on its frames.
TWINS = ("_pick_py", "_chain_py", "_caller_py", "_stream_py", "_lane_py", "_frame_py")

_DRAWN = re.compile(r"(?s)(<!-- drawn: (\w+) -->\n).*?(<!-- /drawn -->)")


def caption(path: Path) -> str:
    """Return the first sentence of a module's docstring."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = " ".join(doc.split("\n\n")[0].split())
    return line.removesuffix(".").replace("|", "\\|")


def layers() -> list[list[str]]:
    """Return the rooms of each storey of the import contract, top first."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    contract = next(one for one in contracts if one["type"] == "layers")
    return [[name.strip(" ()") for name in layer.split("|")] for layer in contract["layers"]]


def storeys() -> list[tuple[int, list[str]]]:
    """Return number and rooms of each storey, top first; some may be empty so far."""
    found: list[list[str]] = []
    for rooms in layers():
        if rooms[0] in TWINS[1:]:
            found[-1] += rooms
        elif rooms != ["__main__"]:
            found.append(rooms)
    return list(zip(range(len(found) - 1, -1, -1), found, strict=True))


def file_of(room: str) -> Path | None:
    """Return the file that has a room's caption; None if the room is not built."""
    for path in (PACKAGE / room / "__init__.py", PACKAGE / f"{room}.py"):
        if path.exists():
            return path
    return None


def modules(room: str) -> list[Path]:
    """Return the modules of a room that is a folder."""
    found = (path for path in (PACKAGE / room).rglob("*.py"))
    return sorted(path for path in found if path != PACKAGE / room / "__init__.py")


def shown(room: str, module: Path) -> str:
    """Return what a module is called on the page; a folder in a room by its own name."""
    name = module.relative_to(PACKAGE / room).as_posix()
    return name.removesuffix("__init__.py")


def draw_storeys() -> str:
    """Return the table of storeys and rooms."""
    lines = ["| storey | room | its one reason to change |", "|---:|---|---|"]
    for number, rooms in storeys():
        for room in rooms:
            path = file_of(room)
            if path is not None:
                shown = f"{room}/" if path.name == "__init__.py" else path.name
                lines.append(f"| {number} | `{shown}` | {caption(path)} |")
    missing = [
        f"`{room}` ({number})" for number, rooms in storeys() for room in rooms if not file_of(room)
    ]
    later = f"\nNot built yet, but with a place in the contract: {', '.join(missing)}.\n"
    return "\n".join(lines) + "\n" + (later if missing else "")


def draw_modules() -> str:
    """Return the tables of modules, room by room."""
    parts = []
    for number, rooms in storeys():
        for room in rooms:
            path = file_of(room)
            if path is not None and path.name == "__init__.py":
                head = f"**{number} · {room}/**\n\n| module | what it does |\n|---|---|"
                rows = [f"| `{shown(room, m)}` | {caption(m)} |" for m in modules(room)]
                parts.append("\n".join([head, *rows]) + "\n")
    return "\n" + "\n".join(parts) + "\n"


_PARTS = {"storeys": lambda: f"\n{draw_storeys()}\n", "modules": draw_modules}


def draw(text: str) -> str:
    """Return the page *text* with its drawn parts drawn anew."""
    return _DRAWN.sub(lambda found: found[1] + _PARTS[found[2]]() + found[3], text)


if __name__ == "__main__":
    PAGE.write_text(draw(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
