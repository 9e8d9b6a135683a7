"""Tell in JSON what went wrong, with the status of HTTP that fits.

All errors over HTTP have one form, whoever found them: an object with `error`, and in it
`status` and `name` of ours, `message`, `type`, and `ran`, which says whether the call may be
sent again: "no", "maybe" or "yes". Where there is more to tell, `code`, `data`, `retry_ms`,
`trace` and `causes`.

Rules of the room:
  * nothing here raises: what can't be said in JSON is left out.
"""

import math
from typing import Any, Final

from fastrpc.errors import FastRPCError, class_of
from fastrpc.frame import Frame
from fastrpc.gateway.convert import json_of, more_of, told_of
from fastrpc.gateway.request import RefusedError
from fastrpc.wire import NOT_RUN, StatusCode

JSON: Final = "application/json"

_OWN: Final = "fastrpc."

#: HTTP status of a call's, as the wire document has them.
HTTP_OF: Final = {
    StatusCode.OK: 200,
    StatusCode.BAD_REQUEST: 400,
    StatusCode.CLIENT_TIMEOUT: 504,
    StatusCode.CANCELLED: 499,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.NOT_FOUND: 404,
    StatusCode.FORBIDDEN: 403,
    StatusCode.TOO_LARGE: 413,
    StatusCode.UNSUPPORTED: 415,
    StatusCode.SERVER_ERROR: 500,
    StatusCode.DEADLINE: 504,
    StatusCode.OVERLOADED: 429,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.RESULT_UNSENDABLE: 500,
    StatusCode.APPLICATION: 500,
    StatusCode.PROTOCOL: 400,
    StatusCode.FLOOD: 429,
}


def error_of(frame: Frame) -> dict[str, Any]:
    """Return what an error reply of a session's tells."""
    told = told_of(frame)
    status = frame.status
    error = _error(
        status,
        str(told.get("message") or f"status {status}"),
        str(told.get("type") or _name(status)),
        "no" if status in NOT_RUN else _ran(status),
    )
    if status == StatusCode.APPLICATION:
        error["code"] = frame.arg
    return error | more_of(told)


def http_of(error: dict[str, Any]) -> int:
    """Return the status of HTTP for an error."""
    status = error["status"]
    if status == StatusCode.APPLICATION and str(error["type"]).startswith(_OWN):
        status = error.get("code")  # a handler refuses in our words, as for an item of a stream
    return HTTP_OF.get(status, 500)


def retry_header(error: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the header that says when to come back, if the error does."""
    retry = error.get("retry_ms")
    if type(retry) is not int or retry < 0:
        return []
    return [("Retry-After", str(math.ceil(retry / 1000)))]


def refusal(refused: RefusedError) -> dict[str, Any]:
    """Return what a request is told that is refused."""
    return _error(refused.status, refused.text, _name(refused.status), "no")


def failure(status: StatusCode, text: str, ran: str) -> dict[str, Any]:
    """Return an error that is not a session's.

    Args:
        status: Ours.
        text: What went wrong.
        ran: Whether the call ran: "no", "maybe" or "yes".
    """
    return _error(status, text, _name(status), ran)


def encoded(error: dict[str, Any]) -> bytes:
    """Return *error* as a body."""
    try:
        return json_of({"error": error})
    except FastRPCError:  # the data of an application can be anything
        return json_of({"error": {key: error[key] for key in error if key != "data"}})


def _error(status: int, message: str, type_: str, ran: str) -> dict[str, Any]:
    return {
        "status": int(status), "name": _name(status), "message": message, "type": type_, "ran": ran
    }  # fmt: skip


def _name(status: int) -> str:
    try:
        return StatusCode(status).name.lower()
    except ValueError:
        return "unknown"


def _ran(status: int) -> str:
    return class_of(status).ran
