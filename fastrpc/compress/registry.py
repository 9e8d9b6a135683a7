"""Keep the compressors one side knows, best first.

A registry is an ordinary object that belongs to one server or client: nothing is
global, so two servers in one process may know different compressors.

Rules of the room:
  * a name belongs to one compressor, for good; the wire knows no numbers of them;
  * the order is the preference: HELLO tells the names as they came;
  * nobody's library is imported but that of a compressor somebody asked for.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from fastrpc.compress.contract import Compressor
from fastrpc.compress.lz4_frame import Lz4Compressor
from fastrpc.compress.zlib_stream import ZlibCompressor
from fastrpc.compress.zstd_frame import ZstdCompressor
from fastrpc.errors import ConfigError

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._+-]{0,31}")

#: Best first: zstd gives most for its time, lz4 takes the least, zlib is always there.
_KNOWN: Final[Mapping[str, Callable[[], Compressor]]] = {
    "zstd": ZstdCompressor,
    "lz4": Lz4Compressor,
    "zlib": ZlibCompressor,
}


class CompressorRegistry:
    """Find compressors by name.

    Args:
        compressors: What to begin with, best first; each is checked as in `register`.
    """

    def __init__(self, compressors: Iterable[Compressor] = ()) -> None:
        self._by_name: dict[str, Compressor] = {}
        for compressor in compressors:
            self.register(compressor)

    def register(self, compressor: Compressor) -> None:
        """Add a compressor, as the least preferred.

        Raises:
            ConfigError: Its name is taken or not allowed.
        """
        name = _checked(compressor)
        if name in self._by_name:
            raise ConfigError(f"there is a compressor named {name!r} already")
        self._by_name[name] = compressor

    def get(self, name: str) -> Compressor:
        """Return the compressor called *name*.

        Raises:
            ConfigError: There is none; the text lists those there are.
        """
        compressor = self._by_name.get(name)
        if compressor is None:
            known = ", ".join(self._by_name) or "none"
            raise ConfigError(f"no compressor is called {name!r}; known are {known}")
        return compressor

    def find(self, name: str | None) -> Compressor | None:
        """Return the compressor called *name*; None for what HELLO did not agree on."""
        return None if name is None else self._by_name.get(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all compressors, best first, as HELLO tells them."""
        return tuple(self._by_name)

    def __iter__(self) -> Iterator[Compressor]:
        """Go through the compressors, best first."""
        return iter(self._by_name.values())

    def __len__(self) -> int:
        """Count the compressors."""
        return len(self._by_name)


def default_compressors() -> CompressorRegistry:
    """Return a new registry with all that is installed: zstd, lz4 and zlib."""
    found = CompressorRegistry()
    for make in _KNOWN.values():
        try:
            found.register(make())
        except ConfigError:  # an extra that is not installed
            continue
    return found


def choose_compressors(names: Sequence[str], own: Iterable[Compressor] = ()) -> CompressorRegistry:
    """Return a new registry with the compressors called *names*, in that order.

    Args:
        names: What to use, best first.
        own: The user's compressors; they go before ours of the same name.

    Raises:
        ConfigError: There is no compressor of a name, or its extra is not
            installed, or a name comes twice.
    """
    _check_names(names)
    mine = {_checked(compressor): compressor for compressor in own}
    chosen = CompressorRegistry()
    for name in names:
        if name in mine:
            chosen.register(mine[name])
        elif name in _KNOWN:
            chosen.register(_KNOWN[name]())
        else:
            known = ", ".join({**mine, **_KNOWN})
            raise ConfigError(f"no compressor is called {name!r}; known are {known}")
    return chosen


def _check_names(names: object) -> None:
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return
    raise ConfigError(f"compression must be a list of names, got {names!r}")


def _checked(compressor: Compressor) -> str:
    name: object = compressor.name
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        rule = "1 to 32 lower-case letters, digits or ._+-"
        raise ConfigError(f"a compressor's name must be {rule}, got {name!r}")
    return name
