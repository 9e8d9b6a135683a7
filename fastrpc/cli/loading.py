"""Find what `fastrpc serve module:name` is to serve, and make a server of it.

Rules of the room:
  * the current folder, or the folder of a given file, can be imported from, as
    with `python module.py`;
  * errors of the user's module keep their traceback; only "there is no such
    thing" becomes a ConfigError.
"""

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from fastrpc import HttpOptions, Server
from fastrpc.errors import ConfigError


def split_spec(spec: str) -> tuple[str, str]:
    """Split `module:name` or `path/file.py:name`; the name may be missing."""
    # A drive letter's colon stands in front of the file, so look from the right.
    head, colon, tail = spec.rpartition(":")
    module, name = (head, tail) if colon and not tail.endswith(".py") else (spec, "")
    if not module or (colon and not name and spec.endswith(":")):
        raise ConfigError(f"{spec!r} should read module:name, for example shop.orders:server")
    return module, name


def load_object(spec: str) -> object:
    """Import the module of *spec* and return the thing it names.

    Raises:
        ConfigError: There is no such module, file or name.
    """
    module_name, name = split_spec(spec)
    module = _load_module(module_name)
    found: object = module
    for part in name.split(".") if name else ():
        try:
            found = getattr(found, part)
        except AttributeError:
            offers = ", ".join(candidates(module)) or "nothing that could be served"
            raise ConfigError(f"{module_name!r} has no {name!r}; it has {offers}") from None
    return found


def _load_module(name: str) -> ModuleType:
    if name.endswith(".py"):
        return _load_file(Path(name))
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only the module asked for: one that it imports itself is the user's bug.
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise
        raise ConfigError(f"there is no module {name!r} here or on the Python path") from None


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"there is no file {str(path)!r}")
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{str(path)!r} can't be imported")
    module = importlib.util.module_from_spec(spec)
    # Before it runs: dataclasses and type hints look their module up by name.
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def candidates(module: ModuleType) -> list[str]:
    """Return the names of *module* that could be served, servers first."""
    servers = [name for name, value in vars(module).items() if isinstance(value, Server)]
    own = [
        name
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]
    return servers + own


def build_server(spec: str, *, factory: bool = False, http: HttpOptions | None = None) -> Server:
    """Return the server that *spec* names, or one that serves what it names.

    A module is asked for a `Server` called `server` first; without one its
    public functions are served.

    Args:
        spec: As given to `fastrpc serve`.
        factory: Call the thing found, without arguments, and use the result.
        http: Options of a server that is made here; a ready one has its own.

    Raises:
        ConfigError: There is no such thing, it can't be served, or it is a ready server
            and *http* is given.
    """
    found = load_object(spec)
    if factory:
        if not callable(found):
            raise ConfigError(f"--factory wants something to call, {spec!r} is not")
        found = found()
    if isinstance(found, ModuleType) and isinstance(getattr(found, "server", None), Server):
        found = found.server
    if isinstance(found, Server):
        if http is not None:
            raise ConfigError(
                f"{spec!r} is a ready server with options of its own: "
                "say it there, as in Server(http=HttpOptions(...))"
            )
        return found
    server = Server() if http is None else Server(http=http)
    try:
        server.register(found)
    except ConfigError as error:
        if isinstance(found, ModuleType) and (offers := candidates(found)):
            names = ", ".join(f"{spec}:{name}" for name in offers)
            raise ConfigError(f"{error}; did you mean one of {names}?") from error
        raise
    return server
