"""Be the debug page: one document, the facts it shows, and what can be done there.

| path | method | is |
|---|---|---|
| | GET | the page: HTML with its style and script inside, and nothing from elsewhere |
| | POST | who shows the token: gets a cookie |
| `/facts.json` | GET | what `Facts` says, live |
| `/contract.json` | GET | services, methods, schemas |
| `/cancel` | POST | stops one call |

Calls are made through `/rpc` of the same server, like those of everybody.

Rules of the room:
  * nothing of a peer's is in the HTML: the script puts it there, as text;
  * what changes something is asked for by the page's own script only.
"""

import base64
import hashlib
import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

import msgspec

from fastrpc.call import method_key
from fastrpc.observe import guard
from fastrpc.observe.guard import COOKIE, Guard
from fastrpc.observe.watcher import watcher_of
from fastrpc.observe.workers import CANCEL, look_at_all, told_to_sibling
from fastrpc.server.pages import PageRequest, PageResponse
from fastrpc.server.workers.siblings import Silent, siblings_of

if TYPE_CHECKING:
    from fastrpc.server.hall import Hall

_HERE: Final = Path(__file__).parent
_JSON: Final = "application/json"
_PARTS: Final = 4  # of a doubling: a picture needs fewer than the counting has
_STOPPED: Final = "cancelled on the server's debug page"
_SAFE: Final = (
    ("Cache-Control", "no-store"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


class Cancel(msgspec.Struct, forbid_unknown_fields=True):
    """Which call to stop: numbers as the facts have them."""

    connection: int
    number: int
    worker: int = 0


_guards: WeakKeyDictionary["Hall", Guard] = WeakKeyDictionary()


async def debug_page(request: PageRequest) -> PageResponse:
    """Answer one request for the page, or for what it shows."""
    if request.is_sibling:
        return _answer_sibling(request)
    if guard.is_foreign(request):
        return _told(403, "the debug page answers no pages of other sites")
    keeper = _guard_of(request.hall)
    if request.path in ("", "/") and request.method == "POST" and keeper.is_set:
        return await _enter(request, keeper)
    if not keeper.lets_in(request.headers):
        return await _ask(request, keeper)
    if request.path in ("", "/") and request.method == "GET":
        return _document("page")
    if request.path == "/facts.json" and request.method == "GET":
        facts = await look_at_all(request.hall, watches=True, parts=_PARTS)
        return _json(200, msgspec.json.encode(facts))
    if request.path == "/contract.json" and request.method == "GET":
        return _json(200, msgspec.json.encode(contract(request.hall)))
    if request.path == "/cancel" and request.method == "POST":
        return await _cancel(request)
    return _told(404, f"there is nothing at {request.path[:100]!r}")


def contract(hall: "Hall") -> dict[str, Any]:
    """Return what a server serves, each method with all names that it can be called by."""
    told = hall.server.describe(schema=True)
    services = []
    for service in told["services"]:
        methods = []
        for method in service["methods"]:
            own = method_key(method["name"], service["version"], service["group"])
            plain = [method["name"]] if service["default"] and own != method["name"] else []
            methods.append({**method, "wire": [*plain, own]})
        services.append({**service, "methods": methods})
    return {"services": services, "$defs": told["$defs"]}


def _answer_sibling(request: PageRequest) -> PageResponse:
    """Tell another worker about this one, or cancel a call of this one for it."""
    if request.path == "/facts.json":
        return _json(200, told_to_sibling(request.hall, watches="watches" in request.query))
    return _cancel_here(request, msgspec.json.decode(request.body, type=Cancel))


async def _cancel(request: PageRequest) -> PageResponse:
    if not guard.is_own(request):
        return _told(403, "only the page itself may cancel a call")
    try:
        which = msgspec.json.decode(request.body, type=Cancel)
    except msgspec.MsgspecError as error:
        return _told(400, str(error))
    siblings = siblings_of(request.hall)
    if siblings is None or which.worker == siblings.seat:
        return _cancel_here(request, which)
    try:
        body = await siblings.ask(which.worker, request.hall, CANCEL, {}, request.body)
    except Silent as error:
        return _told(504, str(error))
    return _json(200, body)


def _cancel_here(request: PageRequest, which: Cancel) -> PageResponse:
    side = request.hall.side
    session = watcher_of(request.hall).session_of(which.connection)
    answers = side.answers
    is_stopped = (
        session is not None
        and answers is not None
        and answers.stop_call(session, which.number, _STOPPED)
    )
    if session is not None and is_stopped:
        text = f"call {session.call_id(which.number)} was {_STOPPED}, by {request.peer}"
        side.complain(logging.INFO, session.peer, text, about="cancelled by hand")
    return _json(200, msgspec.json.encode({"cancelled": is_stopped}))


# Who may come in


def _guard_of(hall: "Hall") -> Guard:
    keeper = _guards.get(hall)
    if keeper is None:
        siblings = siblings_of(hall)
        key = siblings.secret if siblings is not None else b""
        keeper = _guards[hall] = Guard(hall.options.http.debug_token, key)
    return keeper


async def _enter(request: PageRequest, keeper: Guard) -> PageResponse:
    """Let somebody in who has put the token into the form."""
    fields = parse_qs(request.body.decode("utf-8", "replace"))
    return await _admit(request, keeper, fields.get("token", [""])[0].strip())


async def _ask(request: PageRequest, keeper: Guard) -> PageResponse:
    """Ask for the token."""
    if "authorization" in request.headers:  # a wrong one, or it would not come here
        await guard.brake()
    if request.path not in ("", "/"):
        return _told(401, "the token of the debug page is needed")
    if "token" in request.query:
        return await _admit(request, keeper, request.query["token"])
    return _document("login", 401)


async def _admit(request: PageRequest, keeper: Guard, token: str) -> PageResponse:
    if not keeper.knows(token):
        await guard.brake()
        return _document("login", 401)
    cookie = f"{COOKIE}={keeper.cookie}; Path={request.prefix or '/'}; HttpOnly; SameSite=Strict"
    headers = (*_SAFE, ("Set-Cookie", cookie), ("Location", request.prefix or "/"))
    return PageResponse(status=303, content_type="", headers=headers)


# What is sent


def _document(name: str, status: int = 200) -> PageResponse:
    body, policy = _built(name)
    return PageResponse(
        status=status, body=body, headers=(*_SAFE, ("Content-Security-Policy", policy))
    )


@cache
def _built(name: str) -> tuple[bytes, str]:
    """Return a page with all that belongs to it, and what a browser may do with it."""
    style = _read("page.css")
    script = _read("page.js") if name == "page" else ""
    html = _read(f"{name}.html").replace("/*style*/", style).replace("/*script*/", script)
    scripts = f" script-src '{_hash(script)}'; connect-src 'self';" if script else ""
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}';{scripts} img-src data:;"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return html.encode(), policy


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _told(status: int, text: str) -> PageResponse:
    return _json(status, msgspec.json.encode({"error": {"message": text}}))


def _json(status: int, body: bytes) -> PageResponse:
    return PageResponse(status=status, content_type=_JSON, body=body, headers=_SAFE)
