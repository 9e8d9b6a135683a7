"""Open the compiled twin and the pure one side by side, which the library itself never does."""

import importlib
from types import SimpleNamespace
from typing import Final

TWINS: Final = {
    "compiled": (
        "fastrpc._frame",
        "fastrpc._lane",
        "fastrpc._stream",
        "fastrpc._caller",
        "fastrpc._chain",
    ),
    "pure": (
        "fastrpc._frame_py",
        "fastrpc._lane_py",
        "fastrpc._stream_py",
        "fastrpc._caller_py",
        "fastrpc._chain_py",
    ),
}


def open_twin(name: str) -> SimpleNamespace:
    """Return the public names of one twin, and `name`.

    Raises:
        RuntimeError: The compiled twin is not built; measuring the pure one in
            its place would be a lie.
    """
    names: dict[str, object] = {"name": name}
    for module_name in TWINS[name]:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            message = f"{error.name} is not built for this Python: make install"
            raise RuntimeError(message) from error
        names |= {public: getattr(module, public) for public in module.__all__}
    return SimpleNamespace(**names)
