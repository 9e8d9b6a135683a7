"""The page of the contract has every rule, with its verdict and its sentence."""

from fastrpc.call import RULES
from tests.docs.pages import ROOT, table

PAGE = (ROOT / "docs" / "guide" / "contract.md").read_text(encoding="utf-8")


def test_the_table_is_that_of_the_code() -> None:
    shown = {row[0].strip("`"): (row[1], row[2]) for row in table(PAGE, "changes")}
    assert shown == {
        kind.value: ("breaking" if rule.breaking else "harmless", rule.why)
        for kind, rule in RULES.items()
    }


def test_keywords_of_our_own_are_told() -> None:
    for name in ("schema.py", "document.py"):
        text = (ROOT / "fastrpc" / "call" / name).read_text(encoding="utf-8")
        for word in {part.split('"')[0] for part in text.split('"x-')[1:]}:
            assert f"`x-{word}`" in PAGE, word
