"""Put what went wrong in a handler into the body of an error reply.

Exceptions are objects of the application's, and any of their methods, properties
and metaclasses may raise, too. So what Python itself stores is read past them.

Rules of the room:
  * nothing here raises: what can't be printed or encoded is left out;
  * the text of an exception goes to the caller, its traceback only on demand, and
    what it was raised from only if that, too, is meant for callers.
"""

import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from fastrpc.call import ErrorRegistry
from fastrpc.errors import FastRPCError, RpcError
from fastrpc.frame import check_msgpack
from fastrpc.wire import BODY_MAX, StatusCode

TEXT_MAX: Final = 2000  # characters of a message on the wire
TRACE_MAX: Final = 16_000
CAUSES_MAX: Final = 5
CAUSE_TEXT_MAX: Final = 500

#: What a caller reads of an error's body.
ERROR_DEPTH: Final = 64
ERROR_ITEMS: Final = 10_000

_TYPE_MAX: Final = 200
_CODE_MAX: Final = 2**32 - 1
_CHAIN_MAX: Final = 100  # links of a chain that are looked at

# The real ones, whatever a class or its metaclass has by these names.
_name_of: Final = type.__dict__["__name__"].__get__
_cause_of: Final = BaseException.__dict__["__cause__"].__get__
_context_of: Final = BaseException.__dict__["__context__"].__get__
_traceback_of: Final = BaseException.__dict__["__traceback__"].__get__

Body = dict[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def text_of(exc: BaseException) -> str:
    """Return the text of an exception, even of one that can't be printed."""
    try:
        return clipped(str(exc))
    except BaseException:  # its own code runs here: whatever it does, it is still an answer
        return f"<{type_of(exc)} that can't be printed>"


def clipped(text: str, most: int = TEXT_MAX) -> str:
    """Return *text* at a length fit for the wire, without lone surrogates."""
    return text[:most].encode("utf-8", "replace").decode()


def trace_of(exc: BaseException) -> str:
    """Return the end of the traceback as text, without the exception if that can't be printed."""
    stack = _traceback_of(exc)
    try:
        lines = "".join(traceback.format_exception(type(exc), exc, stack))
    except BaseException:
        lines = _stack_text(stack)
    return lines[-TRACE_MAX:].encode("utf-8", "replace").decode()


def log_info(exc: BaseException) -> ExcInfo | None:
    """Return what a logger wants of an exception; None if it should not print it by itself.

    It can't, or some of the words are a peer's: they could pass for lines of their own,
    or fill the log.
    """
    info = (type(exc), exc, _traceback_of(exc))
    try:
        traceback.format_exception(*info)
        ours = [link for link in _links(exc) if issubclass(type(link), FastRPCError)]
        return info if all(_is_plain(str(link)) for link in ours) else None
    except BaseException:
        return None


def log_text(exc: BaseException) -> str:
    """Return what stands in a log for an exception that a logger should not print by itself."""
    parts = [
        f"{_stack_text(_traceback_of(link))}{type_of(link)}: {_escaped(text_of(link))}"
        for link in _links(exc)
    ]
    return "\n\nwhich led to\n\n".join(reversed(parts))


def _links(exc: BaseException) -> list[BaseException]:
    """Return an exception and what led to it."""
    links: dict[int, BaseException] = {}
    link: BaseException | None = exc
    while link is not None and id(link) not in links and len(links) < CAUSES_MAX:
        links[id(link)] = link
        cause = _cause_of(link)
        link = cause if cause is not None else _context_of(link)
    return list(links.values())


def _is_plain(text: str) -> bool:
    return len(text) <= TEXT_MAX and text.replace("\n  ", "").isprintable()


def _escaped(text: str) -> str:
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def type_of(exc: BaseException) -> str:
    """Return the name of the exception's class."""
    try:
        return clipped(_name_of(type(exc)), _TYPE_MAX)
    except BaseException:  # a name that is more than text
        return "Exception"


def application(exc: BaseException, errors: ErrorRegistry, traced: bool) -> tuple[int, Body] | None:
    """Return code and body of an error that is meant for the caller; None for any other."""
    name = _registered(exc, errors)
    if name is None and not issubclass(type(exc), RpcError):
        return None
    body = {"type": name or type_of(exc), "message": _message_of(exc)}
    try:
        data = errors.state_of(exc) if name is not None else exc.data  # type: ignore[arg-type, attr-defined]
    except BaseException:
        data = None  # the caller is told that there was none
    if data is not None:
        body["data"] = data
    return _code_of(exc), _traced(body, exc, errors, traced)


def unexpected(exc: BaseException, errors: ErrorRegistry, traced: bool) -> Body:
    """Return the body for an error that the handler did not mean."""
    return _traced({"type": type_of(exc), "message": text_of(exc)}, exc, errors, traced)


def causes_of(exc: BaseException, errors: ErrorRegistry, traced: bool) -> list[Body]:
    """Return what *exc* was raised from, the nearest first.

    Texts of other exceptions may hold what no caller should see: names of tables,
    paths, passwords in addresses. So these go out only with tracebacks.
    """
    told: list[Body] = []
    cause = _cause_of(exc)
    if cause is None:  # as nearly always
        return told
    seen = {id(exc)}
    while cause is not None and id(cause) not in seen:
        if len(seen) > _CHAIN_MAX or len(told) == CAUSES_MAX:
            break
        seen.add(id(cause))
        name = _registered(cause, errors)
        if traced or name is not None or issubclass(type(cause), RpcError):
            text = clipped(_message_of(cause), CAUSE_TEXT_MAX)
            told.append({"type": name or type_of(cause), "message": text})
        cause = _cause_of(cause)
    return told


def refusal(status: int, text: str, name: str = "", retry_ms: int | None = None) -> Body:
    """Return the body for a call that is refused."""
    body: Body = {"type": name or StatusCode(status).name.lower(), "message": clipped(text)}
    if retry_ms is not None:
        body["retry_ms"] = retry_ms
    return body


def encoded(encode: Callable[[Any], bytes], body: Body, most: int = BODY_MAX) -> bytes:
    """Return *body* as at most *most* bytes that a caller will read.

    What can't be encoded, or is too deep or too much, is left out; if nothing
    fits, nothing is left, and the status has to do.
    """
    told = b""
    try:
        told = encode(body)
    except BaseException:  # only data of the application's can do that
        body.pop("data", None)
    if told and check_msgpack(told, ERROR_DEPTH, ERROR_ITEMS):
        told = b""
        body.pop("data", None)
    told = told or encode(body)
    for key in ("trace", "causes", "data"):
        if len(told) > most and body.pop(key, None) is not None:
            told = encode(body)
    return told if len(told) <= most else b""


def _traced(body: Body, exc: BaseException, errors: ErrorRegistry, traced: bool) -> Body:
    causes = causes_of(exc, errors, traced)
    if causes:
        body["causes"] = causes
    if traced:
        body["trace"] = trace_of(exc)
    return body


def _stack_text(stack: TracebackType | None) -> str:
    try:
        return "".join(traceback.format_tb(stack))
    except BaseException:  # of a module that a class says it comes from, or deep in a recursion
        return ""


def _registered(exc: BaseException, errors: ErrorRegistry) -> str | None:
    try:
        return errors.name_of(type(exc))
    except BaseException:  # of a metaclass, when its class is looked up
        return None


def _message_of(exc: BaseException) -> str:
    """Return the text of an exception; of an RpcError without its code, which travels apart."""
    if issubclass(type(exc), RpcError):
        try:  # a subclass may have forgotten to call the base, or have something else there
            message = getattr(exc, "message", "")
        except BaseException:
            message = None
        if type(message) is str:
            return clipped(message)
    return text_of(exc)


def _code_of(exc: BaseException) -> int:
    """Return the application's code; 0 if it has none that fits the wire."""
    try:
        code = getattr(exc, "code", 0)
        if not issubclass(type(code), int) or type(code) is bool:
            return 0
        number = int.__index__(code)  # of an IntEnum, too
    except BaseException:
        return 0
    return number if 0 <= number <= _CODE_MAX else 0
