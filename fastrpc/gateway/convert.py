"""Say a payload in the other serializer: msgpack, JSON, raw bytes.

What a tongue passes on is usually in the right one already. What is not, a call of a client
whose codec is another, say, is read and written again, with the same codecs and limits.

Rules of the room:
  * whatever can't be said is a `CodecError`, and costs that one call.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from fastrpc.codec import JsonCodec, MsgpackCodec
from fastrpc.errors import CodecError, FastRPCError, Unsupported
from fastrpc.frame import Frame, check_msgpack
from fastrpc.session import failure, outcome
from fastrpc.wire import Limits, Serializer

_MSGPACK: Final = MsgpackCodec()
_JSON: Final = JsonCodec()

#: What an error may tell beside its type and its message.
_MORE: Final = ("data", "trace", "causes", "retry_ms")

T = TypeVar("T")

NULL: Final = {int(Serializer.MSGPACK): b"\xc0", int(Serializer.JSON): b"null"}


def packed(body: dict[str, Any]) -> bytes:
    """Return the body of an error reply; what can't be encoded of it is left out."""
    return failure.encoded(_encode_msgpack, body)


def told_of(frame: Frame) -> dict[str, Any]:
    """Return what an error reply or GOAWAY of our session says; {} if nothing."""
    return outcome.error_map(frame, _MSGPACK.decode)


def more_of(told: dict[str, Any]) -> dict[str, Any]:
    """Return what an error tells beside its type and its message."""
    return {key: told[key] for key in _MORE if key in told}


def string(text: str) -> bytes:
    """Return a text in msgpack."""
    return _MSGPACK.encode(failure.clipped(text))


def json_of(value: Any) -> bytes:
    """Return a plain value as JSON.

    Raises:
        CodecError: It has what JSON can't say.
    """
    return _tried("JSON can't say it", _JSON.encode, value)


def value_of(data: bytes, limits: Limits) -> Any:
    """Return the value of JSON that a peer sent.

    Raises:
        FastRPCError: It is over a limit, or no JSON.
    """
    codec = JsonCodec(limits.max_depth, limits.max_items)
    return _tried("no JSON", codec.decode, data)


def converted(payload: bytes, serializer: int, wanted: int, limits: Limits) -> bytes:
    """Return a payload in the serializer *wanted*, msgpack or JSON.

    Args:
        payload: Encoded value; none at all stands for None.
        serializer: How.
        wanted: How it shall be.
        limits: Depth and items that it may have.

    Raises:
        FastRPCError: It can't be said so, or is over a limit.
    """
    if not payload and serializer == Serializer.RAW:
        return NULL[wanted]
    if serializer == wanted:
        return payload or NULL[wanted]
    trouble = f"it can't be said in {Serializer(wanted).name}"
    value = _tried(trouble, _read, payload, serializer, limits)
    return _tried(trouble, _JSON.encode if wanted == Serializer.JSON else _encode_msgpack, value)


def params_of(frame: Frame, wanted: int, speech: str, limits: Limits) -> bytes:
    """Return the arguments of a call as an array or a map, in the serializer *wanted*.

    Args:
        frame: The call.
        wanted: msgpack or JSON.
        speech: Name of the protocol, for messages.
        limits: Depth and items that they may have.

    Raises:
        Unsupported: Some have names and some do not: other protocols know one or the other.
        FastRPCError: They can't be said so.
    """
    payload, serializer = frame.payload, frame.serializer
    if serializer == Serializer.RAW:  # large bytes, as the only argument
        return json_of([payload]) if wanted == Serializer.JSON else _encode_msgpack([payload])
    named = _read(payload, serializer, limits) if _STAR.get(serializer, b"") in payload else None
    if isinstance(named, dict) and "*" in named:
        raise Unsupported(f"{speech} has arguments by position or by name, and not both at once")
    return converted(payload, serializer, wanted, limits)


#: How the key begins in which arguments by position stand beside those by name.
_STAR: Final = {int(Serializer.MSGPACK): b"\xa1*", int(Serializer.JSON): b'"*"'}


def _tried(trouble: str, step: Callable[..., T], *args: Any) -> T:
    """Return what *step* does; whatever it stumbles over is a `CodecError` that says so."""
    try:
        return step(*args)
    except FastRPCError:
        raise
    except Exception as error:
        raise CodecError(f"{trouble}: {error}") from None


def _read(payload: bytes, serializer: int, limits: Limits) -> Any:
    if serializer == Serializer.RAW:
        return payload
    if serializer == Serializer.JSON:
        return value_of(payload, limits)
    if serializer == Serializer.MSGPACK:
        broken = check_msgpack(payload, limits.max_depth, limits.max_items)
        if broken:
            raise CodecError(f"what was sent {broken}")
        return _MSGPACK.decode(payload)
    raise CodecError(f"serializer {serializer} is not known here")


def _encode_msgpack(value: Any) -> bytes:
    return _MSGPACK.buffers.inline(_MSGPACK.encode, value)
