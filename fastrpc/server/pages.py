"""Say what a page on the port is asked and what it answers, and where each is found.

Pages stand above this storey, so they are found by name and loaded when somebody asks for
one. What speaks HTTP reads the request, and has refused by then what comes from a foreign
site, by a closed door or under a foreign name; it sends the response.

Rules of the room:
  * a page sees plain values: no socket, no parser;
  * who is gone is not waited for: the page is cancelled.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from fastrpc.server.hall import Hall


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """What somebody asks of a page.

    Attributes:
        method: Such as "GET" or "POST"; HEAD comes as "GET", for what answers it
            leaves the body away.
        path: What is below the page's own, without its query: "" or as "/calls".
        query: What stands behind the "?", decoded; of a name that comes twice the last.
        headers: By name in lower case; of a name that comes twice, joined by ", ".
        body: All of it, at most `PagePlace.max_body` bytes.
        peer: Who asks, as text.
        hall: Of the server that was asked, which a mounted one is, too.
        prefix: Where the page is found from outside, mounts included: for links.
        is_sibling: Another worker of this server asks, about this one alone.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    peer: str
    hall: "Hall"
    prefix: str = ""
    is_sibling: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PageResponse:
    """What a page answers.

    Attributes:
        status: Of HTTP.
        content_type: Of the body; "" for none.
        body: All of it.
        headers: More of them, as pairs. Length and connection are seen to already.
    """

    status: int = 200
    content_type: str = "text/html; charset=utf-8"
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class Page(Protocol):
    """What answers requests for a path and all below it.

    It may raise: then the answer is 500, and the log says why.
    """

    async def __call__(self, request: PageRequest) -> PageResponse:
        """Answer one request."""
        ...


@dataclass(frozen=True, slots=True)
class PagePlace:
    """Where a page is found.

    Attributes:
        prefix: The path that it answers, with all below it.
        door: What has to be open for it.
        name: Module and attribute, as "module:attribute".
        methods: What it may be asked; HEAD goes with GET.
        max_body: Most bytes of a request's body: it is read before the page can see who asks.
    """

    prefix: str
    door: str
    name: str
    methods: tuple[str, ...] = ("GET",)
    max_body: int = 8192

    def load(self) -> Page:
        """Return the page, importing it when it is the first time."""
        module, _, attribute = self.name.partition(":")
        page: Page = getattr(importlib.import_module(module), attribute)
        return page


#: All pages that there are, by their prefix.
PAGES: Final = {
    place.prefix: place
    for place in (
        PagePlace("/debug/rpc", "debug", "fastrpc.observe.page:debug_page", ("GET", "POST")),
        PagePlace("/metrics", "metrics", "fastrpc.observe.prometheus:metrics_page"),
        PagePlace("/healthz", "health", "fastrpc.gateway.pages:alive"),
        PagePlace("/readyz", "health", "fastrpc.gateway.pages:ready"),
    )
}


def page_at(path: str) -> tuple[PagePlace, str] | None:
    """Return which page answers *path*, and what of it is below the page's own."""
    for prefix, place in PAGES.items():
        if path == prefix or path.startswith(prefix + "/"):
            return place, path[len(prefix) :]
    return None
