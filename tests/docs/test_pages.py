"""Pages are found, linked, and hold no block that nobody thought about."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import GUIDES, ROOT, blocks, name_of, pages, runnable

# "" is allowed in the specification alone: its blocks are pictures and bytes.
LANGUAGES = {"python", "console", "text", "mermaid", "js"}
README = ROOT / "docs" / "README.md"


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page can be linked by."""
    heads = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_blocks_say_what_they_are(page: Path) -> None:
    allowed = LANGUAGES | ({""} if page.parent.name == "spec" else set())
    for block in blocks(page.read_text(encoding="utf-8")):
        assert block.language in allowed, f"{name_of(page)}:{block.line}"
        looks_like_python = re.search(r"(?m)^(import|from) fastrpc", block.text)
        assert block.language == "python" or not looks_like_python, f"{name_of(page)}:{block.line}"


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_every_guide_has_examples_that_run(page: Path) -> None:
    assert runnable(page.read_text(encoding="utf-8"))


def test_the_index_has_every_guide() -> None:
    listed = re.findall(r"\]\((guide/[\w.]+)\)", README.read_text(encoding="utf-8"))
    assert sorted(listed) == [f"guide/{page.name}" for page in GUIDES]


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_to_a_page_and_a_heading(page: Path) -> None:
    for target, anchor in re.findall(
        r"\]\(([^)#\s]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8")
    ):
        if "://" in target:
            continue
        other = (page.parent / target).resolve() if target else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), f"{target}#{anchor}"
