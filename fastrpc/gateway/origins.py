"""Know which pages of the web may ask this server anything.

A browser sends requests for any page to any server: to one on its user's own machine, to one
inside the user's network. Two things give such a page away: `Origin` (and `Sec-Fetch-Site`,
where a browser sends no origin), and the name by which it asks for us, for a page can make a
name of its own point to 127.0.0.1.

Rules of the room:
  * decided before anything runs, for every path;
  * whoever is no browser has none of these headers, and is none the worse for it.
"""

import ipaddress
import re
from typing import TYPE_CHECKING, Final

from fastrpc.gateway.request import RefusedError, Request
from fastrpc.server.http import HttpOptions
from fastrpc.transport.address import is_loopback
from fastrpc.transport.origin import is_allowed
from fastrpc.wire import StatusCode

if TYPE_CHECKING:
    from fastrpc.server.hall import Entrance

#: Seconds for which a browser may remember what a preflight was told.
_MAX_AGE: Final = 600

_PLACE: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]*", re.IGNORECASE)
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_FOREIGN: Final = ("cross-site", "same-site")
_SHOWN: Final = 100

#: What proxies add to a request.
_PASSED_ON: Final = (
    "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip",
)  # fmt: skip


def check_origin(
    request: Request, options: HttpOptions, entrance: "Entrance", *, is_page: bool = False
) -> bool:
    """Refuse what a foreign page asks, or what is asked under a foreign name.

    Args:
        request: What is asked.
        options: Who may.
        entrance: Where it came in.
        is_page: It is for a page of ours, where links may lead from anywhere.

    Returns:
        Whether a page of another site asks that may.

    Raises:
        RefusedError: It may not.
    """
    _check_host(request, options, entrance)
    origin = request.headers.get("origin")
    if origin is None:
        is_foreign = request.headers.get("sec-fetch-site") in _FOREIGN or (
            not is_page and _is_led(request)
        )
        if is_foreign and not (is_page and _is_visit(request)):
            text = "a page of another site asks, and its browser does not say which (origins)"
            raise RefusedError(403, text, StatusCode.FORBIDDEN)
        return False
    if not origin.isascii() or not is_allowed(origin, request.host, options.origins):
        text = f"pages of {origin[:_SHOWN]!r} may not call this server (origins)"
        raise RefusedError(403, text, StatusCode.FORBIDDEN)
    return not is_allowed(origin, request.host)


def is_passed_on(request: Request) -> bool:
    """Say whether somebody asks from elsewhere, through a proxy on this machine.

    As far as it shows: in headers that proxies add, or in a name that is not this machine's.
    """
    return any(name in request.headers for name in _PASSED_ON) or not (
        _is_here(_name_of(request.host)) or (not request.host and request.version == "1.0")
    )


def cross_headers(request: Request) -> list[tuple[str, str]]:
    """Return what lets a page of another site read the answer."""
    return [
        ("Access-Control-Allow-Origin", request.headers["origin"]),
        ("Access-Control-Expose-Headers", "*"),
        ("Vary", "Origin"),
    ]


def preflight_headers(request: Request, methods: str) -> list[tuple[str, str]]:
    """Return what a browser wants to know before it asks for a page of another site."""
    wanted = request.headers.get("access-control-request-headers", "")
    asked = request.tokens("access-control-request-headers")
    names = ", ".join(name for name in asked if _TOKEN.fullmatch(name))
    told = [("Access-Control-Allow-Methods", methods), ("Access-Control-Max-Age", str(_MAX_AGE))]
    return [*told, ("Access-Control-Allow-Headers", names)] if wanted else told


def _is_led(request: Request) -> bool:
    """Say whether a page of elsewhere asks, whose browser tells no more than whose page it is.

    Browsers send `Sec-Fetch-Site` to addresses only that they trust.
    """
    place = _PLACE.match(request.headers.get("referer", ""))
    return (
        place is not None
        and "sec-fetch-site" not in request.headers
        and not is_allowed(place[0], request.host)
    )


def _is_visit(request: Request) -> bool:
    """Say whether somebody follows a link, and sees where it led."""
    return (
        request.method == "GET"
        and request.headers.get("sec-fetch-mode") == "navigate"
        and request.headers.get("sec-fetch-dest") == "document"
    )


def _check_host(request: Request, options: HttpOptions, entrance: "Entrance") -> None:
    host = request.host
    if not host and request.version == "1.0":  # browsers have long been sending it
        return
    name = _name_of(host)
    if name in options.hosts:
        return
    if not options.hosts and not entrance.is_private:
        return
    if entrance.is_private and _is_own(name):
        return
    text = f"this server is not called {host[:_SHOWN]!r} (hosts)"
    raise RefusedError(421, text, StatusCode.FORBIDDEN)


def _is_here(name: str) -> bool:
    """Say whether *name* means this machine, wherever it is said."""
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name.strip("[]"))


def _name_of(host: str) -> str:
    """Return the name in a Host header, in lower case, without its port."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].rstrip(".").lower()


def _is_own(name: str) -> bool:
    """Say whether no page of the web can have *name*."""
    if _is_here(name):
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
