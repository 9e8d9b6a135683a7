"""Open the compiled twin and the pure one side by side, which the library itself never does."""

import importlib
from types import SimpleNamespace
from typing import Final

from fastrpc.frame import UNITS

TWINS: Final = {"compiled": UNITS, "pure": tuple(f"{unit}_py" for unit in UNITS)}


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
