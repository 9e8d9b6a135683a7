"""Turn replies that are no plain value, and calls that got none, into exceptions.

It is apart from the session because the blocking client has the same outcomes
without a loop.

Rules of the room:
  * whatever the peer sends, the caller gets an error of the public tree;
  * a message names the method and what the caller can do about it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from fastrpc.call import ErrorRegistry, class_named
from fastrpc.codec import Mismatch
from fastrpc.errors import (
    CallError,
    CodecError,
    ConnectFailed,
    ConnectionDraining,
    ConnectionLost,
    DeadlineExceeded,
    FastRPCError,
    Internal,
    MethodNotFound,
    PermissionDenied,
    RemoteError,
    RpcError,
    Stages,
    TooLarge,
    TransportError,
    Unauthenticated,
    Unsupported,
    class_of,
)
from fastrpc.frame import Frame, Lane, check_msgpack
from fastrpc.protocol import decode_refusal
from fastrpc.session import failure
from fastrpc.session.payloads import Payloads
from fastrpc.wire import NOT_RUN, Serializer, StatusCode

if TYPE_CHECKING:
    from fastrpc.session.side import Side

#: Characters of the client's nonce that tell its connections apart in a log.
TAG_MAX: Final = 8

#: Characters that are taken of a peer's texts.
_TEXTS: Final = {"message": failure.TRACE_MAX, "type": 200, "trace": failure.TRACE_MAX}

#: A handler that the server stopped earlier than this before our deadline was stopped
#: by a limit of the server's.
_SKEW: Final = 0.02

#: What a class derived from RpcError may have forgotten, or set otherwise.
_FIELDS: Final = (
    "message", "type", "code", "data", "trace", "method", "retry_after", "call_id",
)  # fmt: skip

_REFUSALS: Final = {43: Unauthenticated, 45: PermissionDenied, 47: Unsupported}

Slot = tuple[Any, Callable[[bytes], Any] | None, str, float, float]


def fail(waiter: Any, exc: Exception) -> None:
    """End a call with an error, unless it has ended already."""
    if not waiter.done():
        waiter.set_exception(exc)


def settle(
    slot: Slot,
    frame: Frame,
    lane: Lane,
    side: "Side",
    payloads: Payloads,
    address: str,
    call: str = "",
) -> None:
    """End a call with a reply that is no plain value.

    Args:
        slot: What the call table had for the call.
        frame: The reply.
        lane: Where it came in.
        side: Codecs, and exceptions that are made again.
        payloads: What payloads may be here.
        address: Target of the connection, for messages.
        call: What the server's log calls it.
    """
    codec = side.by_number.get(frame.serializer)
    decode = slot[1] if frame.serializer == lane.serializer else None
    if frame.status:
        told = side.decoders[Serializer.MSGPACK]
        assert told is not None  # every registry has msgpack
        error = refusal(slot, frame, told, address, call)
        fail(slot[0], restored(error, side.errors) if side.errors else error)
    elif frame.oversize or codec is None:
        fail(slot[0], unreadable(slot, frame, lane.max_body))
    else:
        if frame.metadata and hasattr(slot[0], "trailers"):  # who calls wants to see them
            slot[0].trailers = frame.metadata
        try:
            value = payloads.read(frame, codec, decode or codec.decode)
        except Exception as exc:
            fail(slot[0], undecodable(slot, exc))
        else:
            if not slot[0].done():
                slot[0].set_result(value)


def lost(cause: Exception, name: str) -> ConnectionLost:
    """Return the error of a call whose connection ended; each gets one of its own.

    Tracebacks grow with every raise, so callers must not share an exception.
    """
    if isinstance(cause, ConnectionLost):
        return ConnectionLost(f"{name}: {cause}", "maybe")
    return ConnectionLost(f"{name}: {type(cause).__name__}: {cause}", "maybe")


def call_id(nonce: str, id: int) -> str:
    """Return what both ends call a call: the connection, by the client's nonce, and the id.

    It goes into logs, so of a nonce that is not ours only letters and digits count.
    """
    tag = nonce[:TAG_MAX]
    if not (tag.isascii() and tag.isalnum()):
        tag = "".join(letter for letter in tag if letter.isascii() and letter.isalnum())
    return f"{tag}-{id}" if tag else str(id)


def refusal(
    slot: Slot, frame: Frame, decode: Callable[[bytes], Any], address: str, call: str = ""
) -> CallError:
    """Return the exception for a reply whose status is not ok.

    Args:
        slot: What the call table had for the call.
        frame: The reply.
        decode: Decoder of error bodies (msgpack).
        address: Target of the connection, for messages.
        call: What the server's log calls it.
    """
    told = error_map(frame, decode)
    error = _error_of(slot, frame, told, address)
    error.call_id = call
    if isinstance(error, RemoteError):
        _chain(error, told.get("causes"))
        trace = told.get("trace")
        error.trace = trace if isinstance(trace, str) else None
    if call and (error.status == StatusCode.SERVER_ERROR or isinstance(error, Internal)):
        # Not in the text: who groups errors by their text should get one group.
        error.add_note(f"call {call} in the server's log")
    return error


def restored(error: CallError, errors: ErrorRegistry) -> Exception:
    """Return the registered exception that a reply tells of, or *error* itself."""
    if error.status != StatusCode.APPLICATION or not isinstance(error, RpcError):
        return error
    try:
        made = errors.restore(error)
        if made is None:
            return error
        if isinstance(made, RpcError):
            for name in _FIELDS:
                object.__setattr__(made, name, getattr(error, name))
        # As Python does it: a class may have a word in ordinary assignments.
        object.__setattr__(made, "__cause__", error)
    except BaseException as exc:  # the class's own code runs here, on data of the peer's
        why = f"{failure.type_of(exc)}: {failure.text_of(exc)}"
        error.add_note(f"no {error.type} could be made of it: {why}")
        return error
    return made


def _chain(error: RemoteError, causes: Any) -> None:
    """Hang what the remote exception was raised from on *error*."""
    if not isinstance(causes, list):
        return
    for told in causes[: failure.CAUSES_MAX]:
        if isinstance(told, dict):
            text, kind = (str(told.get(key) or "") for key in ("message", "type"))
            cause = RemoteError(
                failure.clipped(text), type=failure.clipped(kind, _TEXTS["type"]),
                method=error.method,
            )  # fmt: skip
            error.__cause__ = cause
            error = cause


def _error_of(slot: Slot, frame: Frame, told: dict[str, Any], address: str) -> CallError:
    _, _, name, started, deadline = slot
    message = str(told.get("message") or "") or f"{name}: status {frame.status}"
    kind = str(told.get("type") or "")
    retry = told.get("retry_ms")
    retry_after = retry / 1000.0 if type(retry) is int and retry >= 0 else None
    status = frame.status
    said = class_named(kind) if status == StatusCode.APPLICATION else None
    if said is not None:  # a handler's own words: the class, but not its promise that nothing ran
        return said(message, ran="yes", method=name, retry_after=retry_after)
    if status == StatusCode.APPLICATION:
        error = RpcError(frame.arg, message, told.get("data"))
        error.type = kind or error.type
        error.method = name
        error.retry_after = retry_after
        return error
    cls = class_of(status)
    if cls is RemoteError:
        return RemoteError(
            message,
            type=kind,
            data=told.get("data"),
            method=name,
            retry_after=retry_after,
        )
    if cls is DeadlineExceeded:
        handler = frame.time / 1e6 if frame.time else None
        if not deadline or (handler is not None and handler < deadline - started - _SKEW):
            # The server's own limit, not ours.
            stages = Stages(total=handler or 0.0, handler=handler)
            return DeadlineExceeded(message, method=name, stages=stages, address=address)
        return late(name, started, deadline, deadline, address, handler=handler)
    if cls is MethodNotFound and not frame.payload:
        message = f"{name}: {address} knows no such method"
    error_ = cls(message, method=name, retry_after=retry_after)
    error_.ran = "no" if status in NOT_RUN else cls.ran
    error_.status = status  # several share a class
    return error_


def late(
    name: str,
    started: float,
    deadline: float,
    now: float,
    address: str,
    *,
    handler: float | None = None,
    connecting: float = 0.0,
    queued: float = 0.0,
    attempts: int = 1,
    sent: bool = True,
) -> DeadlineExceeded:
    """Return the error of a call whose deadline passed, with the time of each stage.

    Args:
        name: Method.
        started: When the caller began.
        deadline: When the time was up.
        now: Current time on the same clock.
        address: Target tried last.
        handler: Seconds in the handler, if the server told.
        connecting: Seconds spent waiting for a connection.
        queued: Seconds spent waiting for room on it.
        attempts: Connections tried.
        sent: Whether the request left.
    """
    total = max(now - started, 0.0)
    if handler is not None:  # of another clock, and told by the peer: no stage is over the whole
        handler = min(handler, max(total - connecting - queued, 0.0))
    wire = max(total - connecting - queued - (handler or 0.0), 0.0) if sent else None
    stages = Stages(total=total, connecting=connecting, queued=queued, wire=wire, handler=handler)
    timeout = deadline - started
    tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
    return DeadlineExceeded(
        f"{name}: deadline of {timeout * 1e3:.0f} ms passed after {total * 1e3:.0f} ms:"
        f" {stages}; {tries}, {address}",
        ran="maybe" if sent else "no",
        method=name,
        stages=stages,
        attempts=attempts,
        address=address,
    )


def never_sent(name: str) -> DeadlineExceeded:
    """Return the error of a call whose deadline passed while interceptors still held it."""
    text = f"{name}: the deadline passed before the call was sent"
    return DeadlineExceeded(text, ran="no", method=name)


def undecodable(slot: Slot, exc: Exception) -> CallError | CodecError:
    """Return the error for a reply that came but can't be read, or has the wrong type."""
    name = slot[2]
    if isinstance(exc, TooLarge):
        return TooLarge(f"{name}: the reply: {exc}", ran="yes", method=name)
    if isinstance(exc, Unsupported):
        return Unsupported(f"{name}: the reply: {exc}", ran="yes", method=name)
    if isinstance(exc, Mismatch):
        error = CodecError(f"{name}: {exc.inside('result')}")
    else:
        error = CodecError(f"{name}: the reply can't be decoded: {exc}")
    error.ran = "yes"
    return error


def unreadable(slot: Slot, frame: Frame, max_body: int) -> CallError:
    """Return the error for a reply that this side can't take in."""
    name = slot[2]
    if frame.oversize:
        return TooLarge(
            f"{name}: the reply of {frame.oversize} bytes is over this client's max_body of"
            f" {max_body}",
            ran="yes",
            method=name,
        )
    return Unsupported(
        f"{name}: the reply needs serializer {frame.serializer}, which was not agreed on",
        ran="yes",
        method=name,
    )


def turned_down(address: str, frame: Frame) -> FastRPCError:
    """Return the error for a HELLO that was refused."""
    told = decode_refusal(frame.payload)
    text = f"{address} refused the connection: {told.message or f'status {frame.status}'}"
    kind = _REFUSALS.get(frame.status)
    return kind(text) if kind is not None else ConnectFailed(text)


def going(address: str, frame: Frame, decode: Callable[[bytes], Any] | None) -> TransportError:
    """Return the error for calls that a GOAWAY says were not run."""
    if frame.status == StatusCode.UNAVAILABLE:
        return ConnectionDraining(f"{address} is shutting down and did not take the call")
    told = error_map(frame, decode).get("message", "")
    return ConnectionLost(
        f"{address} closed the connection with status {frame.status}: {told}", "no"
    )


def error_map(frame: Frame, decode: Callable[[bytes], Any] | None) -> dict[str, Any]:
    """Return what an error reply or GOAWAY says; {} if it says nothing readable.

    Texts are cut: they end in exceptions, and these in logs.
    """
    if not frame.payload or frame.serializer != Serializer.MSGPACK or decode is None:
        return {}
    if check_msgpack(frame.payload, failure.ERROR_DEPTH, failure.ERROR_ITEMS):
        return {}
    try:
        told = decode(frame.payload)
    except Exception:  # whatever it is, the status alone tells enough
        return {}
    if not isinstance(told, dict):
        return {}
    for key, most in _TEXTS.items():
        if isinstance(told.get(key), str):
            told[key] = failure.clipped(told[key], most)
    return told
