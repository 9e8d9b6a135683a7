"""Open the twins side by side, and count what they are compared on."""

import importlib
from collections import Counter
from functools import cache
from types import SimpleNamespace
from typing import Any

from fastrpc.frame import UNITS

MODULES = {"pure": tuple(f"{unit}_py" for unit in UNITS), "compiled": UNITS}

#: What was put to both twins, and how often; told at the end of a run.
COMPARED: Counter[str] = Counter()
#: What they did not agree on.
DIFFERENCES: Counter[str] = Counter()


@cache
def open_twin(name: str) -> SimpleNamespace:
    """Return the public names of one twin, and its `name`."""
    names: dict[str, Any] = {"name": name}
    for module in map(importlib.import_module, MODULES[name]):
        names |= {public: getattr(module, public) for public in module.__all__}
    return SimpleNamespace(**names)


def both() -> tuple[SimpleNamespace, SimpleNamespace]:
    """Return the pure twin and the compiled one."""
    return open_twin("pure"), open_twin("compiled")


def agree(what: str, pure: object, compiled: object, given: object = "") -> None:
    """Count one input that was put to both twins, and fail if they differ."""
    COMPARED[what] += 1
    if pure != compiled:
        DIFFERENCES[what] += 1
        raise AssertionError(
            f"{what}: the twins differ\npure:     {pure}\ncompiled: {compiled}\n{given}"
        )


def shown(thing: Any) -> Any:
    """Return what is to be compared of a frame or an exception; other things as they are."""
    if isinstance(thing, BaseException):
        told = (type(thing).__name__, str(thing))
        return (*told, thing.at, thing.seen) if hasattr(thing, "seen") else told
    if type(thing).__name__ == "Frame":
        return {field: getattr(thing, field) for field in FIELDS}
    return thing


FIELDS = (
    "kind", "id", "serializer", "reply", "oneway", "heartbeat", "status", "bits", "arg", "time",
    "name", "metadata", "payload", "buffers", "oversize",
)  # fmt: skip


def outcome(function: Any, *args: Any, **kwargs: Any) -> tuple[str, Any]:
    """Call *function* and return what came of it, in a form that can be compared."""
    try:
        result = function(*args, **kwargs)
    except Exception as exc:
        return "raised", shown(exc)
    if isinstance(result, list):
        return "returned", [shown(item) for item in result]
    return "returned", shown(result)
