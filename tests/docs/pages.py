"""The pages of the documentation and the code blocks on them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GUIDES = sorted((ROOT / "docs" / "guide").glob("*.md"))

_FENCE = re.compile(r"```(\S*)\s*")
_FILE = re.compile(r"# ([\w-]+\.py)\s*")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, its text, and the line of the page it begins on."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str:
        """The name in a first line such as `# arith.py`: the block is that file."""
        found = _FILE.fullmatch(self.text.partition("\n")[0])
        return found[1] if found else ""


def pages() -> list[Path]:
    """Return every page whose examples must run."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in found if page.exists()]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a page in their order."""
    found: list[Block] = []
    language: str | None = None
    inside: list[str] = []
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        fence = _FENCE.fullmatch(line)
        if language is not None and fence and not fence[1]:
            found.append(Block(language, "".join(inside), number - len(inside)))
            language, inside = None, []
        elif language is not None:
            inside.append(line)
        elif fence:
            language = fence[1]
    if language is not None:
        raise ValueError(f"a block of {language or 'no language'} does not end")
    return found


def runnable(text: str) -> list[Block]:
    return [block for block in blocks(text) if block.language in ("python", "console")]


def table(text: str, name: str) -> list[list[str]]:
    """Return the cells of the table behind `<!-- table: name -->`, without its two head lines."""
    mark = f"<!-- table: {name} -->"
    assert text.count(mark) == 1, mark
    found = re.search(r"(?m)^\|.*\n(?:\|.*\n?)*", text[text.index(mark) :])
    assert found is not None
    lines = found[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
