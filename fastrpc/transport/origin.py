"""Say whether a page of some site may talk to us, by what its browser tells.

Rules of the room:
  * what can't be read is not allowed.
"""

import re
from collections.abc import Collection
from typing import Final

#: What is listed instead of an origin to let every page in.
ANY_ORIGIN: Final = "*"

_USUAL_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443"}

_PLACE: Final = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[^\s/?#@\[\]:]+)(?::(?P<port>\d{1,5}))?")


def is_allowed(origin: str, host: str, origins: Collection[str] = ()) -> bool:
    """Return whether a page may connect.

    Args:
        origin: Where the page came from, as its browser says.
        host: What the request takes us for.
        origins: Others that may.
    """
    wanted = origin.lower()
    if ANY_ORIGIN in origins or wanted in {each.lower() for each in origins}:
        return True
    scheme, mark, place = wanted.partition("://")
    usual = _USUAL_PORTS.get(scheme)
    if not mark or usual is None or not host:
        return False
    ours = _place(host.lower(), usual)
    return ours is not None and _place(place, usual) == ours


def _place(text: str, usual: str) -> tuple[str, str] | None:
    found = _PLACE.fullmatch(text)
    return (found["host"], found["port"] or usual) if found else None
