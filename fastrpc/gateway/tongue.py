"""Stand between a foreign peer and one of our sessions: what all tongues have in common.

A tongue translates between the messages of another protocol and our frames. Whoever
connected, the session it belongs to is a real one, so limits, deadlines, interceptors and
push are those of every other connection; the tongue plays the part of its peer: it answers
HELLO, numbers calls and gives credit.

Rules of the room:
  * bytes in, bytes out: no socket, no clock, no log;
  * what a peer makes it remember is what is open, and the session limits that;
  * what was read goes on in the order it came, and what came before a fault is answered.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any, ClassVar, Final

from fastrpc.errors import FastRPCError, ProtocolError
from fastrpc.frame import Frame, Method, encode_frame
from fastrpc.gateway.convert import packed, told_of
from fastrpc.protocol import Option, decode_option, encode_option, negotiate
from fastrpc.session import failure
from fastrpc.version import __version__
from fastrpc.wire import Kind, Limits, Serializer, StatusCode

#: What a message may be longer than the longest body: its method, id and punctuation.
ENVELOPE: Final = 64 * 1024

#: Longest text that is taken for a method; the session has a limit of its own.
NAME_LENGTH_MAX: Final = 1024

Sink = Callable[[bytes], None]


class Shape(Enum):
    """What goes back and forth in a call of a method."""

    CALL = "call"
    GIVES = "gives"  # the callee sends items
    TAKES = "takes"  # the caller sends items, and the callee may, too


def shape_in(router: Mapping[bytes, Method], name: bytes) -> Shape:
    """Return the shape of the method *name*; what is not there is a call, to be refused."""
    method = router.get(name)
    info: Any = method.info.info if method is not None else None
    if info is None:
        return Shape.CALL
    if info.takes is not None:
        return Shape.TAKES
    return Shape.CALL if info.item is None else Shape.GIVES


def shapes_of(router: Mapping[bytes, Method] | None) -> Callable[[bytes], Shape]:
    """Return what tells the shapes of the methods of a server."""
    return partial(shape_in, router if router is not None else {})


class Tongue(ABC):
    """Translate for one foreign connection, in either role.

    Call `take` for each frame that the session writes, `feed` for the bytes of the peer, and
    `eof` when the peer sends no more. `feed` and `eof` raise `ProtocolError` when the
    connection makes no sense any more; everything before that was handed on.

    Args:
        to_peer: Takes foreign bytes, one message each time.
        to_session: Takes bytes of our frames.
        limits: What the peer may send.
        dialled: Whether the session on top is a client's, and the peer a foreign server.
        shape_of: Tells what a method is by its name.

    Attributes:
        messages: How many the peer has sent.
        vain: Of those, since somebody looked last, what achieved nothing and got no answer.
    """

    #: What the tongue is called in messages and in `agent`.
    name: ClassVar[str]
    door: ClassVar[str]
    #: How the payloads are encoded that it passes on unread. A session that calls the peer
    #: does best with this serializer; others are translated.
    serializer: ClassVar[Serializer]
    #: What means nothing to the peer: written to one that sends no more, it shows whether
    #: somebody is there who waits for answers. Empty if everything means something.
    probe: ClassVar[bytes] = b""

    def __init__(
        self,
        to_peer: Sink,
        to_session: Sink,
        *,
        limits: Limits | None = None,
        dialled: bool = False,
        shape_of: Callable[[bytes], Shape] | None = None,
    ) -> None:
        """Say nothing yet."""
        self.limits = limits if limits is not None else Limits()
        self.is_dialled = dialled
        self.is_paused = False  # the peer reads too slowly
        self.messages = 0  # of the peer's, so far
        self.vain = 0
        self._late = 0  # calls that we gave up, whose answers may still come
        self._shape_of = shape_of if shape_of is not None else shapes_of(None)
        self._to_peer = to_peer
        self._to_session = to_session
        self._frames: list[bytes] = []  # for the session, until this step is over
        self._names: dict[int, bytes] = {}  # of the session's method numbers
        self._last_id = 0  # of the calls that the peer makes

    @property
    def longest(self) -> int:
        """Most bytes of one message of the peer's."""
        return self.limits.max_body + ENVELOPE

    @property
    def is_waiting(self) -> bool:
        """Whether part of a message has come and the rest has not."""
        return False

    def take(self, frame: Frame) -> None:
        """Take the next frame that the session has written; pings are not for us."""
        try:
            self._take(frame)
        finally:
            self._hand_over()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the peer; where messages have bounds, one message.

        Raises:
            ProtocolError: They are not of this protocol.
        """
        try:
            self._feed(data)
        finally:
            self._hand_over()

    def eof(self) -> None:
        """Note that the peer sends no more.

        Raises:
            ProtocolError: It stopped in the middle of a message.
        """
        try:
            self._end()
        finally:
            self._hand_over()

    def pause_writing(self) -> None:
        """Give no more credit: what was said is not read."""
        self.is_paused = True

    def resume_writing(self) -> None:
        """Go on: the peer has read."""
        self.is_paused = False

    def lose(self) -> None:
        """Let go of everything: the peer is gone.

        What is open leads back here by way of who waits for it. Nobody should have to wait for
        the garbage collector to have the memory of a connection that is gone.
        """
        self._to_peer = self._to_session = _nowhere
        self._frames = []

    # What a tongue has to say

    @abstractmethod
    def _feed(self, data: bytes) -> None:
        """Read messages of the peer."""

    @abstractmethod
    def _end(self) -> None:
        """Read what stands at the end of a stream."""

    @abstractmethod
    def _ask(self, frame: Frame, name: bytes) -> None:
        """Tell the peer of a call that the session makes.

        Raises:
            FastRPCError: It can't be told; the session gets that for an answer.
        """

    @abstractmethod
    def _answer(self, frame: Frame) -> None:
        """Tell the peer how a call of its own ended."""

    @abstractmethod
    def _forget(self, id: int) -> None:
        """Let go of a call that the session has given up."""

    @abstractmethod
    def _item(self, frame: Frame) -> None:
        """Tell the peer an item of a stream that it opened."""

    @abstractmethod
    def _part(self, status: int, message: str) -> None:
        """Tell the peer that the session won't have it."""

    # Frames

    def _take(self, frame: Frame) -> None:
        if frame.kind == Kind.CALL:
            if frame.reply:
                self._answer(frame)
            else:
                self._make_call(frame)
        elif frame.kind == Kind.DATA:
            if frame.reply:
                self._item(frame)
        elif frame.kind == Kind.OPEN:
            text = f"{self._name_of(frame).decode()}: streams can't be opened over {self.name}"
            self._refuse(frame.id, StatusCode.UNSUPPORTED, text)
        elif frame.kind == Kind.CANCEL:
            self._forget(frame.id)
        elif frame.kind == Kind.HELLO:
            self._hello(frame)
        elif frame.kind == Kind.GOAWAY and frame.status != StatusCode.UNAVAILABLE:
            self._part(frame.status, str(told_of(frame).get("message", "")))

    def _make_call(self, frame: Frame) -> None:
        name = self._name_of(frame)
        try:
            self._ask(frame, name)
        except FastRPCError as error:
            if not frame.oneway:
                self._refuse(frame.id, error.status, f"{name.decode()}: {error}")

    def _hello(self, frame: Frame) -> None:
        if self.is_dialled:
            agreed = negotiate(decode_option(frame.payload, False), self._option())
            payload = encode_option(agreed, True)
            json = int(Serializer.JSON)
            self._frame(Kind.HELLO, 0, reply=True, serializer=json, payload=payload)
        elif frame.status:
            self._part(frame.status, f"refused with status {frame.status}")

    def _option(self) -> Option:
        """Return what our session is to think of its peer."""
        limits = self.limits
        return Option(
            max_body=limits.max_body,
            max_calls=limits.max_calls,
            methods=limits.max_methods,
            window=limits.window,
            agent=f"{self.name} through fastrpc/{__version__}",
        )

    def _name_of(self, frame: Frame) -> bytes:
        """Return the method that a frame of the session's is about."""
        if frame.name:
            self._names[frame.arg] = frame.name
            return frame.name
        return self._names.get(frame.arg, b"")

    # Into the session

    def _frame(self, kind: Kind, id: int, **fields: Any) -> None:
        self._frames.append(encode_frame(int(kind), id, **fields))

    def _stray(self) -> None:
        """Count an answer that nobody waits for: one may come for each call that was given up."""
        if self._late:
            self._late -= 1
        else:
            self.vain += 1

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _refuse(self, id: int, status: int, text: str) -> None:
        """Answer a call of the session's that the peer will never see."""
        self._fail(id, status, failure.refusal(status, text))

    def _fail(self, id: int, status: int, body: dict[str, Any], code: int = 0) -> None:
        """End a call of the session's with an error."""
        self._frame(
            Kind.CALL, id, reply=True, status=int(status), arg=code,
            serializer=int(Serializer.MSGPACK), payload=packed(body),
        )  # fmt: skip

    def _hand_over(self) -> None:
        """Let go of what this step has gathered."""
        if self._frames:
            frames, self._frames = self._frames, []
            self._to_session(b"".join(frames))


def _nowhere(data: bytes) -> None:
    """Drop what is for who is gone."""


def stranger(name: str, data: bytes, why: str) -> ProtocolError:
    """Return the error for a foreign server that does not speak as it should."""
    seen = data[:64].split(b"\n")[0].decode("latin-1")
    return ProtocolError(f"the peer speaks no {name} ({why}); it says {seen!r}")
