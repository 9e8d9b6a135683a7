"""Put what went wrong in a handler into the body of an error reply.

Rules of the room:
  * nothing here raises: what can't be printed or encoded is left out;
  * the text of an exception goes to the caller, its traceback only on demand.
"""

import traceback
from collections.abc import Callable
from typing import Any, Final

from fastrpc.errors import RpcError
from fastrpc.wire import StatusCode

TEXT_MAX: Final = 2000  # characters of a message on the wire
TRACE_MAX: Final = 16_000
_TYPE_MAX: Final = 200
_CODE_MAX: Final = 2**32 - 1

Body = dict[str, Any]


def text_of(exc: BaseException) -> str:
    """Return the text of an exception, even of one that can't be printed."""
    try:
        return clipped(str(exc))
    except BaseException:  # its own code runs here: whatever it does, it is still an answer
        return f"<{type(exc).__name__} that can't be printed>"


def clipped(text: str) -> str:
    """Return *text* at a length fit for the wire, without lone surrogates."""
    return text[:TEXT_MAX].encode("utf-8", "replace").decode()


def trace_of(exc: BaseException) -> str:
    """Return the end of the traceback as text."""
    try:
        lines = "".join(traceback.format_exception(exc))
    except Exception:
        return ""
    return lines[-TRACE_MAX:].encode("utf-8", "replace").decode()


def application(exc: RpcError) -> tuple[int, Body]:
    """Return the code and the body for an error that the handler raised on purpose."""
    # Fields of a subclass that forgot to call ours may be missing or of any kind.
    code, message = getattr(exc, "code", 0), getattr(exc, "message", "")
    if type(code) is not int or not 0 <= code <= _CODE_MAX:
        code = 0
    body = {
        "type": type_of(exc),
        "message": clipped(message) if type(message) is str else text_of(exc),
    }
    if getattr(exc, "data", None) is not None:
        body["data"] = exc.data
    return code, body


def unexpected(exc: BaseException, traced: bool) -> Body:
    """Return the body for an error that the handler did not mean."""
    body = {"type": type_of(exc), "message": text_of(exc)}
    if traced:
        body["trace"] = trace_of(exc)
    return body


def type_of(exc: BaseException) -> str:
    """Return the name of the exception's class."""
    return clipped(type(exc).__name__[:_TYPE_MAX])


def refusal(status: int, text: str) -> Body:
    """Return the body for a call that was not run."""
    return {"type": StatusCode(status).name.lower(), "message": clipped(text)}


def encoded(encode: Callable[[Any], bytes], body: Body) -> bytes:
    """Return *body* as bytes; data of the application's that has none is left out."""
    try:
        return encode(body)
    except Exception:
        body.pop("data", None)
        return encode(body)
