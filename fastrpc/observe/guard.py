"""Let only those see the debug page who may: by origin, and by a token if there is one.

A token is shown once, in a form or as `?token=`, and a cookie stands for it from then on;
programs send it as `Authorization: Bearer`. The cookie is no token: it holds for this
process and this server only.

Rules of the room:
  * digests are compared, in constant time;
  * what changes something comes from the page itself, and from no other.
"""

import asyncio
import hashlib
import hmac
import os
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Final, final

from fastrpc.server.pages import PageRequest
from fastrpc.transport.origin import is_allowed

COOKIE: Final = "fastrpc-debug"
#: What requests of the page's own script have; a foreign page can't add it unasked.
HEADER: Final = "x-fastrpc-debug"
#: Seconds that a wrong token takes.
BRAKE: Final = 1.0

_BEARER: Final = "bearer "


@final
class Guard:
    """Knows who may see one server's debug page.

    Args:
        token: What they have to know, "" for nothing.
        key: What cookies are made with, the same wherever one is to be known.
    """

    __slots__ = ("_cookie", "_token")

    def __init__(self, token: str, key: bytes = b"") -> None:
        key = key or os.urandom(32)
        self._token = _digest(token) if token else b""
        self._cookie = hmac.new(key, self._token, hashlib.sha256).hexdigest()

    @property
    def is_set(self) -> bool:
        """Whether a token is asked for."""
        return bool(self._token)

    @property
    def cookie(self) -> str:
        """What a cookie has to say."""
        return self._cookie

    def lets_in(self, headers: Mapping[str, str]) -> bool:
        """Say whether who asks with *headers* has shown the token before, or shows it now."""
        if not self._token:
            return True
        shown = headers.get("authorization", "")
        if shown[: len(_BEARER)].lower() == _BEARER:
            return self.knows(shown[len(_BEARER) :].strip())
        return hmac.compare_digest(_cookie_of(headers).encode(), self._cookie.encode())

    def knows(self, token: str) -> bool:
        """Say whether *token* is the one."""
        return hmac.compare_digest(_digest(token), self._token)


def is_foreign(request: PageRequest) -> bool:
    """Say whether a page of another site asks, be it one that may make calls."""
    origin = request.headers.get("origin")
    if origin is not None:
        return not is_allowed(origin, request.headers.get("host", ""))
    if request.headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return False
    return request.headers.get("sec-fetch-mode") != "navigate"  # somebody follows a link


def is_own(request: PageRequest) -> bool:
    """Say whether the page's own script asks, or a program that pretends to be it."""
    site = request.headers.get("sec-fetch-site", "same-origin")
    return HEADER in request.headers and site == "same-origin" and not is_foreign(request)


async def brake() -> None:
    """Take the time that makes guessing slow."""
    await asyncio.sleep(BRAKE)


def _cookie_of(headers: Mapping[str, str]) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found is not None else ""


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
