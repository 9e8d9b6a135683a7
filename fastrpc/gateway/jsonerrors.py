"""Say in JSON-RPC how a call ended, and read how others say it.

The codes are those of the table in docs/spec/wire.md. An application's own code is the
error's code; what JSON-RPC has no word for (type, status, pushback) stands in `data`.

Rules of the room:
  * a code that we know gives the status it stands for; any other is an application's.
"""

from collections.abc import Mapping
from typing import Any, Final

from fastrpc.errors import FastRPCError
from fastrpc.frame import Frame
from fastrpc.gateway.convert import json_of, more_of, told_of
from fastrpc.wire import NOT_RUN, StatusCode

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600

#: Codes of statuses; an application's status has a code of its own.
CODES: Final[Mapping[int, int]] = {
    40: -32602, 42: -32042, 43: -32043, 44: -32601, 45: -32045, 46: -32046, 47: -32047,
    50: -32603, 51: -32051, 52: -32052, 53: -32053, 54: -32603, 70: -32600, 71: -32071,
}  # fmt: skip

#: Statuses of codes. What could not be read as a request was not run.
STATUSES: Final[Mapping[int, int]] = {
    code: status for status, code in CODES.items() if status not in (54, 70, 71)
} | {PARSE_ERROR: 40, INVALID_REQUEST: 40, -32071: 52}

_TOLD: Final = frozenset(CODES) - {70, 71}  # those are of connections, not of calls
_CODE_MAX: Final = 2**32 - 1
_OTHERS: Final = "JsonRpcError"


def error_of(frame: Frame) -> bytes:
    """Return the error object for a reply of our session whose status is not ok."""
    told = told_of(frame)
    status = frame.status
    code = frame.arg if status == StatusCode.APPLICATION else CODES.get(status, -32603)
    data: dict[str, Any] = {"type": str(told.get("type") or ""), "status": status}
    if status in NOT_RUN:
        data["ran"] = "no"
    data |= more_of(told)
    message = str(told.get("message") or "") or f"status {status}"
    try:
        return error_object(code, message, data)
    except FastRPCError:  # what the application put there, JSON can't say
        data.pop("data", None)
        return error_object(code, message, data)


def error_object(code: int, message: str, data: object = None) -> bytes:
    """Return an error object."""
    error = {"code": code, "message": message}
    return json_of(error if data is None else error | {"data": data})


def text_of(frame: Frame) -> bytes:
    """Return the error as JSON-RPC 1.0 has it in most programs: a text."""
    return json_of(str(told_of(frame).get("message") or "") or f"status {frame.status}")


def reply_of(error: Any) -> tuple[int, int, dict[str, Any]]:
    """Return status, application code and body for the error that a foreign server sent.

    Args:
        error: What stood there: an object with code, message and data; version 1.0 and
            some servers have a text, or anything.
    """
    if not isinstance(error, dict):
        text = error if isinstance(error, str) else f"the server said {error!r}"
        return StatusCode.APPLICATION, 0, {"type": _OTHERS, "message": text}
    code, data = error.get("code"), error.get("data")
    body: dict[str, Any] = {"type": _OTHERS, "message": _message_of(error)}
    status = STATUSES.get(code, StatusCode.APPLICATION) if type(code) is int else 60
    if isinstance(data, dict) and _is_ours(data, code, status):
        status = data["status"]
        body["type"] = str(data.get("type") or "")
        body |= more_of(data)
    elif data is not None:
        body["data"] = data
    if status != StatusCode.APPLICATION:
        return status, 0, body
    if type(code) is int and 0 <= code <= _CODE_MAX:
        return status, code, body
    # A number that has no place in a frame goes where an application can find it.
    body["data"] = {"code": code, "data": body.get("data")}
    return status, 0, body


def _message_of(error: dict[str, Any]) -> str:
    message = error.get("message")
    return message if isinstance(message, str) else "the server gave no message"


def _is_ours(data: dict[str, Any], code: Any, status: int) -> bool:
    """Say whether *data* is what `error_of` writes, for a code that goes with it."""
    said = data.get("status")
    if type(said) is not int or "type" not in data:
        return False
    return said == status or (said in _TOLD and CODES.get(said) == code)
