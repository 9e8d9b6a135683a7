"""A session with everything around it made of paper: transport, clock, peer."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from fastrpc.codec import default_codecs
from fastrpc.frame import Frame, FrameDecoder, LoopShare, encode_frame
from fastrpc.protocol import Option, encode_option, negotiate
from fastrpc.session import Answerer, Handling, Routes, Session, Side, Threads, Ticker
from fastrpc.wire import Kind, Limits, Serializer

JSON, MSGPACK = int(Serializer.JSON), int(Serializer.MSGPACK)
LOG = logging.getLogger("tests.session")


class Paper(asyncio.Transport):
    """A transport that writes on paper, and says how much of it was read."""

    def __init__(self) -> None:
        super().__init__({"peername": ("10.0.0.9", 4711)})
        self.written = b""
        self.unread = 0
        self.events: list[str] = []
        self.protocol: Any = None
        self.has_half = True

    def write(self, data: Any) -> None:
        assert "eof" not in self.events, "written after the end"
        assert "close" not in self.events, "written after the end"
        self.written += data

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        return self.unread

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return bool({"close", "abort"} & set(self.events))

    def is_reading(self) -> bool:
        told = [event for event in self.events if event in ("pause", "resume")]
        return told[-1:] != ["pause"]

    def pause_reading(self) -> None:
        self.events.append("pause")

    def resume_reading(self) -> None:
        self.events.append("resume")

    def can_write_eof(self) -> bool:
        return self.has_half

    def write_eof(self) -> None:
        assert self.has_half
        self.events.append("eof")

    def close(self) -> None:
        self.events.append("close")

    def abort(self) -> None:
        self.events.append("abort")


class Rig:
    """One session, either end, on the running loop and a clock that the test moves."""

    def __init__(
        self, *services: Any, client: bool = False, ticks: bool = False,
        answers: dict[str, Any] | None = None, wrapped: bool = False, **limits: Any,
    ) -> None:  # fmt: skip
        self.now = 1000.0
        self.told: list[str] = []
        self.lost: list[Exception] = []
        loop = asyncio.get_running_loop()
        share = LoopShare(
            loop.create_future, loop.call_soon, lambda: self.now, lambda: True, 0, loop
        )
        self.limits = Limits(**limits)
        codecs = default_codecs(self.limits)
        routes = Routes(codecs, self.limits, wrapped=wrapped)
        for service in services:
            routes.add(service, None)
        self.side = Side(
            share=share, ticker=Ticker(loop, share), limits=self.limits,
            option=Option(agent="ours", max_body=self.limits.max_body), codecs=codecs, log=LOG,
            router=routes.table if services or not client else None,
            on_accept=self._note("accept"), on_open=self._note("open"),
            on_drain=self._note("drain"), on_room=self._note("room"), on_lost=self._on_lost,
        )  # fmt: skip
        if self.side.router is not None:
            given = {
                "max_running": 100, "handler_timeout": 0.0, "tracebacks": False,
                "handling": Handling(Threads(loop, 2)),
            }  # fmt: skip
            self.side.answers = Answerer(self.side, **{**given, **(answers or {})})
        self.session = Session(self.side, client=client, address="tcp://far:1" if client else "")
        self.transport = Paper()
        self._decoder = FrameDecoder()
        self._read = 0

    def _note(self, what: str) -> Callable[[Session], None]:
        return lambda session: self.told.append(what)

    def _on_lost(self, session: Session, cause: Exception) -> None:
        self.told.append("lost")
        self.lost.append(cause)

    def connect(self) -> "Rig":
        """Make the connection, without a word from the peer."""
        self.session.connection_made(self.transport)
        return self

    def greet(self, **option: Any) -> "Rig":
        """Connect and let the peer say a proper HELLO."""
        self.connect()
        theirs = Option(agent="theirs", **option)
        if self.session.is_client:
            (hello,) = self.frames()
            theirs = negotiate(Option(nonce=self.session._nonce), theirs)
            self.feed(hello_frame(encode_option(theirs, True), reply=True))
            assert hello.kind == Kind.HELLO
        else:
            self.feed(hello_frame(encode_option(theirs, False)))
            assert [frame.kind for frame in self.frames()] == [Kind.HELLO]
        return self

    def feed(self, *data: bytes) -> None:
        """Let bytes come in."""
        self.session.lane.feed(b"".join(data))

    def read(self, *data: bytes) -> None:
        """Let bytes come in as the event loop does it."""
        whole = b"".join(data)
        self.session.get_buffer(-1)[: len(whole)] = whole
        self.session.buffer_updated(len(whole))

    def frames(self) -> list[Frame]:
        """Return what was written since the last look, as frames."""
        self.session.lane.flush()
        fresh = self.transport.written[self._read :]
        self._read = len(self.transport.written)
        return self._decoder.feed(fresh)

    def look(self, seconds: float = 0.0, *, late: bool = False) -> None:
        """Let time pass and the slow tick come."""
        self.now += seconds
        self.session.slow_tick(self.now, late)

    def lose(self, exc: Exception | None = None) -> None:
        """End the byte pipe."""
        self.session.connection_lost(exc)


def hello_frame(payload: bytes, **more: Any) -> bytes:
    return encode_frame(Kind.HELLO, 0, serializer=JSON, payload=payload, **more)


def kinds(frames: list[Frame]) -> list[tuple[int, int]]:
    """Return kind and status of each frame."""
    return [(frame.kind, frame.status) for frame in frames]
