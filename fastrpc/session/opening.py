"""Settle the HELLO pair from frames: what to answer, what both sides keep to.

It is apart from the session because it is pure: frames and options in, bytes
and options out.
"""

from dataclasses import replace
from typing import Final

from fastrpc.errors import FastRPCError, FrameError, ProtocolError
from fastrpc.frame import Frame, encode_frame
from fastrpc.protocol import (
    Nonces,
    Option,
    State,
    confirm,
    decode_option,
    encode_option,
    encode_refusal,
    negotiate,
)
from fastrpc.session import outcome
from fastrpc.wire import Kind, Serializer, StatusCode

_HTTP: Final = (b"GE", b"PO", b"PU", b"HE", b"OP", b"DE", b"PA", b"CO", b"TR")  # its methods
_NOT_HTTP_TEXT: Final = b"This port speaks the fastrpc binary protocol, not HTTP.\r\n"
_NOT_HTTP: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s"
) % (len(_NOT_HTTP_TEXT), _NOT_HTTP_TEXT)


def greeting(option: Option, nonce: str) -> bytes:
    """Return the client's HELLO."""
    payload = encode_option(replace(option, nonce=nonce), False)
    return encode_frame(Kind.HELLO, 0, serializer=Serializer.JSON, payload=payload)


def check(frame: Frame, reply: bool, max_hello: int) -> None:
    """Refuse a frame that can't be the HELLO of the other side.

    Raises:
        ProtocolError: It can't.
    """
    if frame.reply is not reply:
        raise ProtocolError("HELLO goes the wrong way")
    if frame.oversize or len(frame.payload) > max_hello:
        raise ProtocolError(f"HELLO is over {max_hello} bytes")
    if frame.serializer != Serializer.JSON or frame.bits or frame.id:
        raise ProtocolError("HELLO must be plain JSON with id 0")


def accept(frame: Frame, offer: Option, nonces: Nonces) -> tuple[Option, Option, bytes]:
    """Return what was agreed, what the client says, and the server's HELLO.

    Raises:
        ProtocolError: Status 47 if nothing is in common, 43 if it was said before, both
            to be told in a HELLO; 70 if a rule is broken.
    """
    asked = decode_option(frame.payload, False)
    nonces.take(asked.nonce)
    agreed = negotiate(asked, offer)
    return agreed, asked, _answer(encode_option(agreed, True))


def refuse(status: int, text: str) -> bytes:
    """Return the HELLO of a server that won't have the connection."""
    return _answer(encode_refusal(text), status)


def welcome(frame: Frame, option: Option, nonce: str, address: str) -> Option | FastRPCError:
    """Return what the server's HELLO agrees to, or why it refused.

    Raises:
        ProtocolError: It is no answer to ours.
    """
    if frame.status:
        return outcome.turned_down(address, frame)
    return confirm(replace(option, nonce=nonce), decode_option(frame.payload, True))


def stranger(
    exc: Exception, client: bool, state: State, address: str
) -> tuple[Exception, bytes] | None:
    """Return what to say of, and to, a peer that speaks another protocol; None if it does not."""
    if not isinstance(exc, FrameError) or exc.at != "magic":
        return None
    if client:
        shown = exc.seen.split(b"\r\n")[0][:64].decode("latin-1")
        return ProtocolError(f"{address} is no fastrpc server; it says {shown!r}"), b""
    if state is State.HELLO and exc.seen.startswith(_HTTP):
        return exc, _NOT_HTTP
    return None


def words(exc: Exception) -> tuple[int, str]:
    """Return what the peer, and a server's log, are told of input that makes no sense.

    It repeats nothing of the input, as the error for our own caller may.
    """
    if isinstance(exc, FrameError) and exc.at == "magic":
        return exc.status, "not a frame: the magic number is another"
    if isinstance(exc, FastRPCError):
        return exc.status, str(exc)
    return int(StatusCode.SERVER_ERROR), "internal error"


def _answer(payload: bytes, status: int = 0) -> bytes:
    return encode_frame(
        Kind.HELLO, 0, reply=True, serializer=Serializer.JSON, status=status, payload=payload
    )
