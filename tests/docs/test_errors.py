"""The page of errors has the whole tree, with its statuses."""

import fastrpc
from fastrpc import errors
from tests.docs.pages import ROOT, table

PAGE = (ROOT / "docs" / "guide" / "errors.md").read_text(encoding="utf-8")
ROWS = {row[0].strip("`"): row[1:] for row in table(PAGE, "errors")}
BUILT_IN: tuple[type[Exception], ...] = (ValueError, ConnectionError, TimeoutError)


def classes() -> dict[str, type[errors.FastRPCError]]:
    """Return every error but the base of all, by name."""
    found: dict[str, type[errors.FastRPCError]] = {}
    todo: list[type[errors.FastRPCError]] = [errors.FastRPCError]
    while todo:
        below = todo.pop().__subclasses__()
        todo += below
        found |= {cls.__name__: cls for cls in below if cls.__module__ == errors.__name__}
    return found


def test_every_error_is_there_and_public() -> None:
    assert set(ROWS) == set(classes())
    assert set(ROWS) < set(fastrpc.__all__)


def test_statuses_and_what_ran_by_default() -> None:
    for name, cls in classes().items():
        _, status, ran, _ = ROWS[name]
        if name != "CallError":
            assert status == str(cls.status), name
            assert cls.ran in ran.split(" or "), name


def test_built_ins() -> None:
    for name, cls in classes().items():
        also = [built_in.__name__ for built_in in BUILT_IN if issubclass(cls, built_in)]
        assert ROWS[name][0].strip("`") == ", ".join(also), name
