"""Find who answers a request, by its path.

| path | answers |
|---|---|
| `/rpc` | the list of methods |
| `/rpc/openapi.json` | the OpenAPI document |
| `/rpc/Service.method` | that method |
| `/jsonrpc` | JSON-RPC 2.0 |
| those of `server.pages` | pages |

Rules of the room:
  * a foreign page is refused before anybody is found;
  * what is behind a closed door does not exist.
"""

from typing import TYPE_CHECKING, Any, Final

from fastrpc.gateway import calls, openapi, queries
from fastrpc.gateway.exchange import Answer, Exchange
from fastrpc.gateway.jsonposts import JsonRpcAnswer
from fastrpc.gateway.origins import check_origin, is_passed_on, preflight_headers
from fastrpc.gateway.pages import PageAnswer
from fastrpc.gateway.problems import JSON
from fastrpc.gateway.request import RefusedError, decoded
from fastrpc.server.doors import PRIVATE
from fastrpc.server.pages import page_at
from fastrpc.wire import StatusCode

if TYPE_CHECKING:
    from fastrpc.call import MethodInfo
    from fastrpc.server.hall import Hall

RPC: Final = "/rpc"
OPENAPI: Final = "/rpc/openapi.json"
JSONRPC: Final = "/jsonrpc"

_ANY: Final = "GET, HEAD, POST, OPTIONS"


class ReadyAnswer(Answer):
    """Answer with what is known already.

    Args:
        exchange: What is answered.
        http: Status.
        body: Of the answer.
        headers: More of them.
    """

    def __init__(
        self,
        exchange: Exchange,
        http: int,
        body: bytes = b"",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._exchange = exchange
        self._http = http
        self._body = body
        self._headers = headers

    def ask(self, body: bytes) -> None:
        """Answer."""
        kind = JSON if self._body else ""
        self._exchange.respond(self._http, self._body, kind, self._headers)


def answer_to(exchange: Exchange) -> Answer | None:
    """Return who answers a request; None if the connection is to go on as something else.

    Raises:
        RefusedError: Nobody does.
    """
    request, path = exchange.request, exchange.path
    page = page_at(path)
    exchange.is_foreign = check_origin(
        request, exchange.options, exchange.connection.entrance, is_page=page is not None
    )
    if request.method == "CONNECT" or _upgrades(exchange):
        return None
    if request.method == "OPTIONS":
        headers = preflight_headers(request, _ANY) if exchange.is_foreign else []
        return ReadyAnswer(exchange, 204, headers=(("Allow", _ANY), *headers))
    if request.method in ("GET", "HEAD") and request.has_body:
        raise RefusedError(400, f"a {request.method} has no body")
    if page is not None:
        place, below = page
        _check_door(exchange, place.door)
        _check_method(exchange, place.methods)
        return PageAnswer(exchange, place, below)
    if path == RPC or path.startswith(f"{RPC}/"):
        _check_door(exchange, "http")
        return _rpc(exchange)
    if path == JSONRPC:
        _check_door(exchange, "jsonrpc")
        _check_method(exchange, ("POST",))
        _check_open(exchange.hall)
        calls.check_type(request)
        return JsonRpcAnswer(exchange)
    raise _nothing(exchange)


def _upgrades(exchange: Exchange) -> bool:
    """Say whether a request asks for another protocol that is known here."""
    request = exchange.request
    if "upgrade" not in request.tokens("connection"):
        return False
    return bool({"fastrpc", "websocket"} & set(request.tokens("upgrade")))


def _rpc(exchange: Exchange) -> Answer:
    if exchange.path in (RPC, f"{RPC}/", OPENAPI):
        _check_method(exchange, ("GET",))
        write = openapi.document if exchange.path == OPENAPI else openapi.listing
        at = exchange.request.path.removesuffix(exchange.path)
        return ReadyAnswer(exchange, 200, write(exchange.hall, at))
    _check_method(exchange, ("GET", "POST"))
    _check_open(exchange.hall)
    request, limits = exchange.request, exchange.hall.side.limits
    name = decoded(exchange.path[len(RPC) + 1 :], "the name of the method").encode()
    if len(name) > limits.max_name:
        text = f"a name of {len(name)} bytes, max_name is {limits.max_name}"
        raise RefusedError(404, text, StatusCode.NOT_FOUND)
    info = info_of(exchange.hall, name)
    is_read = request.method in ("GET", "HEAD")
    if is_read and info is not None and not may_get(info):
        text = f"{info.name} is called with POST: {_why_not(info)}"
        raise RefusedError(405, text, headers=(("Allow", "POST, OPTIONS"),))
    if request.method == "HEAD" and info is not None and info.item is not None:
        raise RefusedError(405, f"{info.name} gives items", headers=(("Allow", "GET, POST"),))
    pairs = request.arguments()
    payload: bytes | None = None
    if is_read or (info is not None and info.takes is not None):
        payload = b"[]" if info is None else queries.arguments_of(info, pairs, limits)
    elif pairs:
        raise RefusedError(400, "the arguments of a POST are in its body, not in a query")
    return calls.answer_for(exchange, info, name, payload)


def info_of(hall: "Hall", name: bytes) -> "MethodInfo | None":
    """Return what is known about a method of a server, None if there is none."""
    router = hall.side.router
    method = router.get(name) if router is not None else None
    found: Any = method.info.info if method is not None else None
    return found  # type: ignore[no-any-return]


def may_get(info: "MethodInfo") -> bool:
    """Say whether a method can be called with GET."""
    return info.traits.idempotent and info.takes is None


def _why_not(info: "MethodInfo") -> str:
    return "it takes items" if info.takes is not None else "it is not declared idempotent"


def _check_open(hall: "Hall") -> None:
    if hall.is_closing:
        raise RefusedError(503, "the server is shutting down", StatusCode.UNAVAILABLE)


def _check_door(exchange: Exchange, door: str) -> None:
    if door not in exchange.doors:
        raise _nothing(exchange, f" (the door {door!r} is closed)")
    entrance = exchange.connection.entrance
    if door in PRIVATE and not entrance.is_named and is_passed_on(exchange.request):
        raise _nothing(exchange, f" (name the door {door!r} to open it to those behind a proxy)")


def _check_method(exchange: Exchange, methods: tuple[str, ...]) -> None:
    method = "GET" if exchange.request.method == "HEAD" else exchange.request.method
    if method in methods:
        return
    allowed = ", ".join([*methods, *(("HEAD",) if "GET" in methods else ()), "OPTIONS"])
    text = (
        f"{exchange.request.method[:20]} is not what {exchange.path[:100]} answers, but {allowed}"
    )
    raise RefusedError(405, text, headers=(("Allow", allowed),))


def _nothing(exchange: Exchange, why: str = "") -> RefusedError:
    text = f"there is nothing at {exchange.request.path[:100]!r}{why}"
    return RefusedError(404, text, StatusCode.NOT_FOUND)
