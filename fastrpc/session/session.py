"""Keep one live connection: open it, feed its lane, keep it alive, end it.

The plain call never passes here; the lane has it. What does pass is everything
about the connection as a whole, and every frame that is no plain call.

Rules of the room:
  * states and what may follow stand in `protocol.states`; here they are only acted on;
  * when the pipe ends, everything open ends with it, at once and with a reason;
  * nothing is awaited: all of it is callbacks, so no cancel can leave it half done.
"""

import asyncio
import logging
import os
from dataclasses import replace
from typing import Any, cast, final

from fastrpc.errors import (
    ConnectionLost,
    FastRPCError,
    FrameError,
    ProtocolError,
    TooLarge,
)
from fastrpc.frame import Frame, Lane, Method, encode_frame
from fastrpc.protocol import (
    Input,
    Option,
    PeerGuard,
    State,
    confirm,
    decode_option,
    encode_option,
    encode_refusal,
    negotiate,
    step,
)
from fastrpc.protocol.guard import CANCEL_BURST
from fastrpc.session import fork, outcome
from fastrpc.session.answer import Fate, Running
from fastrpc.session.side import Side
from fastrpc.transport import peer_of
from fastrpc.wire import (
    BIT_MORE,
    ID_MAX,
    KIND_CRITICAL,
    PING_BODY_MAX,
    Kind,
    Serializer,
    StatusCode,
)

WRITE_HIGH = 64 * 1024
_ONE_WAY = frozenset({Kind.OPEN, Kind.HALF, Kind.CANCEL, Kind.GOAWAY})
_BASELINE = frozenset({int(Serializer.RAW), int(Serializer.MSGPACK), int(Serializer.JSON)})
_HTTP = (b"GE", b"PO", b"PU", b"HE", b"OP", b"DE", b"PA", b"CO", b"TR")  # how its methods begin
_NOT_HTTP_TEXT = b"This port speaks the fastrpc binary protocol, not HTTP.\r\n"
_NOT_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s"
) % (len(_NOT_HTTP_TEXT), _NOT_HTTP_TEXT)


@final
class Session(asyncio.BufferedProtocol):
    """One connection, either end of it.

    Args:
        side: What all connections of this server or client share.
        client: Whether this end made the connection.
        address: The target, for messages; a server's sessions find the peer's.
    """

    __slots__ = (
        "__weakref__", "_bytes_seen", "_cancels", "_client", "_deadline", "_frames_seen", "_gone", "_guard", "_heard",
        "_idle", "_lasting", "_nonce", "_partial", "_partial_bytes", "_pinged", "_pings", "_stall", "_strikes", "_ticker",
        "_transport", "_unsent", "buffer_updated", "cause", "get_buffer", "lane", "peer", "peer_option",
        "running", "serializers", "side", "state",
    )  # fmt: skip

    def __init__(self, side: Side, *, client: bool, address: str = "") -> None:
        self.side = side
        assert side.ticker is not None  # a session lives on a loop
        self._ticker = side.ticker
        self.lane = Lane(self, side.share, side.limits.max_hello)
        # The loop gets the lane's own methods: no Python frame per read.
        self.get_buffer = self.lane.get_buffer
        self.buffer_updated = self.lane.buffer_updated
        self.state = State.CONNECTING
        self.peer = address
        self.peer_option: Option | None = None
        self.serializers = _BASELINE
        self.running: dict[int, Running] = {}
        self.cause: Exception | None = None  # why it ended, once it has
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._guard: PeerGuard | None = None
        self._nonce = ""
        self._pings: dict[int, asyncio.Future[float]] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None
        self._deadline = 0.0  # when the next running handler is late
        self._heard = self._pinged = self._partial = self._stall = 0.0
        self._bytes_seen = self._frames_seen = self._unsent = self._strikes = self._cancels = 0
        self._lasting = False  # the peer sends no more, but gets its answers

    def __repr__(self) -> str:
        """Tell peer and state."""
        return f"<Session {self.peer} {self.state.value}>"

    @property
    def is_draining(self) -> bool:
        """Whether calls that come are refused."""
        return self.lane.draining

    @property
    def _ping_after(self) -> float:
        """Seconds of silence before we ping; never sooner than the peer allows."""
        agreed = self.peer_option.ping_ms / 1000.0 if self.peer_option is not None else 0.0
        return max(self.side.limits.idle_ping, agreed)

    @property
    def in_flight(self) -> int:
        """Calls open in either direction."""
        return len(self.running) + len(self.lane.table)

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: say HELLO, or wait for the peer's."""
        transport = cast("asyncio.Transport", transport)  # uvloop has a class of its own
        self._transport = transport
        self.state = step(self.state, Input.CONNECTED)
        if not self.peer:
            self.peer = peer_of(transport)
        self._heard = self.lane.share.clock()
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        self.lane.attach(transport.write, transport.writelines)
        self._ticker.watch(self)
        if self._client:
            self._nonce = os.urandom(16).hex()
            option = _with_nonce(self.side.option, self._nonce)
            self.lane.send(
                encode_frame(
                    Kind.HELLO, 0, serializer=Serializer.JSON, payload=encode_option(option, False)
                )
            )
            self.lane.flush()
        self.side.on_accept(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End everything that was open."""
        self.state = step(self.state, Input.LOST)
        if self.cause is None:
            why = f": {exc}" if exc is not None else " by the peer" if self._client else ""
            self.cause = ConnectionLost(f"{self.peer}: the connection was closed{why}", "maybe")
        self._ticker.forget(self)
        open_calls = self.lane.detach()
        self._transport = None
        # They hold the lane; without them nothing does once the loop lets go.
        del self.get_buffer, self.buffer_updated
        for running in list(self.running.values()):
            if running.fate is Fate.OWED:
                running.fate = Fate.UNWANTED
            running.stop()
        for _, slot in open_calls:
            _fail(slot[0], _lost(self.cause, slot[2]))
        for waiter in (self._pings or {}).values():
            _fail(waiter, self.cause)
        self._pings = None
        for done in (self._idle, self._gone):
            if done is not None and not done.done():
                done.set_result(None)
        self.side.on_lost(self, self.cause)

    def eof_received(self) -> bool:
        """Let a peer that sends no more still have its answers."""
        if self.running and not self._client:
            self._lasting = True
            return True
        return False

    def pause_writing(self) -> None:
        """Stop taking requests: their answers would pile up unread."""
        self.lane.paused = True
        self.lane.ready = False
        self._stall, self._unsent = 0.0, 0
        if self.side.router is not None and self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on: the peer has read."""
        self.lane.paused = False
        self.lane.ready = self.state is State.OPEN
        self.lane.resume()
        if self.side.router is not None and self._transport is not None and not self.lane.paused:
            self._transport.resume_reading()
        self.side.on_room(self)

    # What the lane calls

    def frames(self, frames: list[Frame]) -> None:
        """Take the frames that are no plain calls, in order."""
        for frame in frames:
            if self.state is State.CLOSED:
                return
            if frame.kind == Kind.HELLO:
                self._hello(frame)
                continue
            self.state = step(self.state, Input.FRAME)
            if frame.bits & BIT_MORE:
                raise ProtocolError("bit MORE is reserved and must be 0")
            if frame.reply and frame.kind in _ONE_WAY:
                raise ProtocolError(f"kind {frame.kind} can't be a reply")
            if frame.kind == Kind.CALL:
                self._special(frame)
            elif frame.kind == Kind.OPEN:
                self._refuse_or_answer(frame)
            elif frame.kind == Kind.CANCEL:
                self._cancelled(frame)
            elif frame.kind == Kind.GOAWAY:
                self._goaway(frame)
            elif frame.kind in KIND_CRITICAL:
                raise ProtocolError(f"kind {frame.kind} is not known to version 1")
            # DATA, HALF and CREDIT of streams that are not open, and kinds 12 to 15: skipped.

    def broken(self, exc: Exception) -> None:
        """End a connection whose input makes no sense any more."""
        if self.state is State.CLOSED:
            return
        if isinstance(exc, FrameError) and exc.at == "magic":
            if self._client:
                shown = exc.seen.split(b"\r\n")[0][:64].decode("latin-1")
                self.cause = ProtocolError(f"{self.peer} is no fastrpc server; it says {shown!r}")
            elif self.state is State.HELLO and exc.seen.startswith(_HTTP):
                self._write(_NOT_HTTP)
        if isinstance(exc, FastRPCError):
            text, status = str(exc), exc.status
            level = logging.DEBUG if self._client else logging.WARNING
            self.side.complain(level, self.peer, f"closing: {text}")
        else:
            # Ours, not the peer's: the connection's state is unknown, so it goes.
            text, status = "internal error", int(StatusCode.SERVER_ERROR)
            self.side.complain(logging.ERROR, self.peer, "closing: internal error", exc)
        self.shut(exc if self.cause is None else self.cause, Input.FAILED, status, text)

    def start(self, method: Method, frame: Frame, args: Any) -> None:
        """Run a handler that the lane may not run."""
        self._answers.start(self, method, frame, args)

    def bind(self, method: Method, frame: Frame, exc: Exception | None) -> None:
        """Run a call by name, or say what is wrong with its arguments."""
        self._answers.bind(self, method, frame, exc)

    def expired(self, method: Method, frame: Frame) -> None:
        """Answer a call that came too late."""
        self._answers.expired(self, method, frame)

    def raised(self, method: Method, frame: Frame, exc: BaseException) -> None:
        """Answer a call whose handler raised."""
        self._answers.raised(self, method, frame, exc)

    def unsendable(self, method: Method, frame: Frame, exc: Exception | None) -> None:
        """Answer a call whose result can't be sent."""
        self._answers.unsendable(self, method, frame, exc)

    def answered(self, slot: outcome.Slot, frame: Frame) -> None:
        """End a call with a reply that is no plain value."""
        if frame.status == StatusCode.OK and not frame.metadata:
            _fail(slot[0], outcome.unreadable(slot, frame, self.lane.max_body))
            return
        decode = self.side.decoders[Serializer.MSGPACK]
        assert decode is not None  # every registry has msgpack
        if frame.status == StatusCode.OK:
            self._trailers(slot, frame)
            return
        if frame.status == StatusCode.NOT_FOUND:
            self.lane.forget(slot[2])
        _fail(slot[0], outcome.refusal(slot, frame, decode, self.peer))

    def undecodable(self, slot: outcome.Slot, frame: Frame, exc: Exception) -> None:
        """End a call whose reply can't be read."""
        _fail(slot[0], outcome.undecodable(slot, exc))

    def tick(self) -> None:
        """Begin to look for late and cancelled calls."""
        self._ticker.hurry(self)

    def room(self) -> None:
        """Tell those who wait that replies came."""
        self.side.on_room(self)

    # What the ticker calls

    def fast_tick(self, now: float) -> bool:
        """Expire calls and handlers; return whether there may be more."""
        if self.state is State.CLOSED:
            return False
        for name, started, deadline, waiter in [
            (slot[2], slot[3], slot[4], slot[0]) for slot in self.lane.sweep(now)
        ]:
            _fail(waiter, outcome.late(name, started, deadline, now, self.peer))
        if self.lane.crowded:
            self.side.on_room(self)
        if self._deadline and now >= self._deadline and self.side.answers is not None:
            self._deadline = self.side.answers.expire(self, now)
        self._check_idle()
        return self.lane.ticking or bool(self._deadline)

    def slow_tick(self, now: float, late: bool) -> None:
        """Find peers that are silent, stalled, slow, or that never said HELLO."""
        limits, lane = self.side.limits, self.lane
        if lane.bytes_in != self._bytes_seen or late:
            self._bytes_seen = lane.bytes_in
            if self.state is not State.HELLO:
                self._heard, self._pinged = now, 0.0
        if self.state is State.HELLO:
            if now - self._heard > limits.hello_timeout and not late:
                self._give_up(f"no HELLO within {limits.hello_timeout:g} s")
            return
        self._check_strikes()
        if lane.paused:
            self._check_stall(now, late)
        elif not self._pinged and now - self._heard > self._ping_after:
            self._pinged = now
            lane.send(encode_frame(Kind.CALL, int(now * 1000), heartbeat=True))
        elif self._pinged and now - self._pinged > limits.ping_timeout:
            self._give_up(f"silent for {now - self._heard:.0f} s, ping unanswered")
        self._check_partial(now, late)

    # Requests of the owner

    def ping(self) -> "asyncio.Future[float]":
        """Send a ping; the future gets the seconds until its pong."""
        if self._pings is None:
            self._pings = {}
        now = self.lane.share.clock()
        token = int(now * 1e9)
        while token in self._pings:
            token += 1
        waiter: asyncio.Future[float] = self.lane.share.create_future()
        self._pings[token] = waiter
        self.lane.send(encode_frame(Kind.CALL, token, heartbeat=True))
        return waiter

    def expect(self, deadline: float) -> None:
        """Look after a handler that must end by *deadline*."""
        if not self._deadline or deadline < self._deadline:
            self._deadline = deadline
        self._ticker.hurry(self)

    def finished(self, id: int) -> None:
        """Note that a handler has ended."""
        self.running.pop(id, None)
        if self._lasting and not self.running:
            self.close()
        self._check_idle()

    def announce_drain(self) -> None:
        """Tell the peer to make no more calls; those under way are still taken."""
        if self.state is State.OPEN:
            self.state = step(self.state, Input.DRAIN)
            self._goodbye(ID_MAX, StatusCode.UNAVAILABLE, "")

    def drain(self) -> "asyncio.Future[None]":
        """Refuse calls from now on; the future is done when none is in flight."""
        if self._idle is None:
            self._idle = self.lane.share.create_future()
            if self.state in (State.OPEN, State.DRAINING):
                self.lane.draining = True
                self._goodbye(self.lane.last_id, StatusCode.UNAVAILABLE, "")
        self._check_idle()
        return self._idle

    def gone(self) -> "asyncio.Future[None]":
        """Return a future that is done when the connection has ended."""
        if self._gone is None:
            self._gone = self.lane.share.create_future()
            if self._transport is None and self.state is State.CLOSED:
                self._gone.set_result(None)
        return self._gone

    def sever(self) -> None:
        """Take this process's end off the socket, in the child of a fork.

        The descriptor stays taken, by a dead socket: whoever closes it later in
        this process closes nothing that matters, and the parent's event loop,
        whose epoll set is shared, is left alone.
        """
        if self._transport is not None:
            fork.bury(self._transport.get_extra_info("socket"))

    def cancel_running(self, why: str) -> None:
        """Stop the handlers that still run, and tell their callers."""
        for running in list(self.running.values()):
            self._answers.stop(self, running, why)

    def close(self) -> None:
        """Close after what is queued has been written."""
        self.shut(None, Input.CLOSE)

    def abort(self, cause: Exception) -> None:
        """Close at once."""
        self.shut(cause, Input.CLOSE)
        if self._transport is not None:
            self._transport.abort()

    def shut(self, cause: Exception | None, event: Input, status: int = 0, text: str = "") -> None:
        """Close for *cause*; with a status, tell the peer why."""
        if self.state is State.CLOSED:
            return
        self.state = step(self.state, event)
        if self.cause is None:
            self.cause = cause or ConnectionLost(f"{self.peer}: closed here", "maybe")
        self.lane.ready = False
        if status:
            self._goodbye(self.lane.last_id, status, text)
        self.lane.flush()
        self.lane.opened = False
        if self._transport is not None:
            self._transport.close()

    def check_unsent(self) -> None:
        """Cut off a peer that lets answers pile up."""
        if self.lane.paused and self._transport is not None:
            waiting = self._transport.get_write_buffer_size() + self.lane.unsent
            if waiting > self.side.limits.max_unsent + self.lane.peer_body:
                self._give_up(f"{waiting} bytes wait for it to read, over max_unsent")

    # HELLO

    def _hello(self, frame: Frame) -> None:
        if self.state is not State.HELLO or frame.reply is not self._client:
            self.state = step(self.state, Input.HELLO if self.state is not State.HELLO else Input.FRAME)
        if frame.oversize or len(frame.payload) > self.side.limits.max_hello:
            raise ProtocolError(f"HELLO is over {self.side.limits.max_hello} bytes")
        if frame.serializer != Serializer.JSON or frame.bits or frame.id:
            raise ProtocolError("HELLO must be plain JSON with id 0")
        if self._client:
            self._welcome(frame)
            return
        try:
            asked = decode_option(frame.payload, False)
            answer = negotiate(asked, self.side.option)
        except ProtocolError as exc:
            self._refuse_hello(exc)
            return
        self._agree(answer, asked)
        payload = encode_option(answer, True)
        self.lane.send(
            encode_frame(Kind.HELLO, 0, reply=True, serializer=Serializer.JSON, payload=payload)
        )
        self.side.on_open(self)

    def _welcome(self, frame: Frame) -> None:
        if frame.status:
            self.cause = outcome.turned_down(self.peer, frame)
            self.shut(self.cause, Input.REFUSED)
            return
        option = _with_nonce(self.side.option, self._nonce)
        answer = confirm(option, decode_option(frame.payload, True))
        self._agree(answer, answer)
        self.side.on_open(self)

    def _agree(self, agreed: Option, peer: Option) -> None:
        """Put in force what both sides accept."""
        self.state = step(self.state, Input.HELLO)
        self.peer_option = peer
        self.serializers = frozenset(agreed.codecs.values())
        self.side.agree(self.lane, agreed, peer)
        self.lane.ready = not self.lane.paused
        self._heard = self.lane.share.clock()

    def _refuse_hello(self, exc: ProtocolError) -> None:
        payload = encode_refusal(str(exc))
        self._write(
            encode_frame(
                Kind.HELLO, 0, reply=True, serializer=Serializer.JSON, status=exc.status, payload=payload
            )
        )
        self.side.complain(logging.WARNING, self.peer, f"HELLO refused: {exc}")
        self.shut(exc, Input.REFUSED)

    # Frames of the slow lane

    def _special(self, frame: Frame) -> None:
        """Take pings, pongs, and calls and replies that are not plain."""
        if frame.heartbeat and not frame.reply:
            self._check_guard().ping(self.lane.share.clock())
            if len(frame.payload) > PING_BODY_MAX:
                raise ProtocolError(f"a ping's body is over {PING_BODY_MAX} bytes")
            pong = encode_frame(
                Kind.CALL, frame.id, heartbeat=True, reply=True, payload=frame.payload
            )
            self.lane.send(pong)
        elif frame.heartbeat:
            waiter = self._pings.pop(frame.id, None) if self._pings else None
            if waiter is not None and not waiter.done():
                waiter.set_result(max(self.lane.share.clock() - frame.id / 1e9, 0.0))
        elif frame.reply:
            slot = self.lane.table.take(frame.id)
            if slot is None:
                self.lane.late += 1
            elif frame.status:
                self.answered(slot, frame)
            else:
                _fail(slot[0], outcome.unreadable(slot, frame, self.lane.max_body))
        else:
            self._refuse_or_answer(frame)

    def _refuse_or_answer(self, frame: Frame) -> None:
        if self.side.answers is not None:
            self.side.answers.slowly(self, frame)
        elif not frame.oneway:
            self.lane.reply(frame.id, 0, b"", int(StatusCode.NOT_FOUND))

    def _trailers(self, slot: outcome.Slot, frame: Frame) -> None:
        """Take a reply with metadata: the value counts, trailers have no reader yet."""
        decode = slot[1] or self.side.decoders[frame.serializer]
        try:
            if decode is None:
                raise TooLarge("no codec for it")
            value = decode(frame.payload)
        except Exception as exc:
            self.undecodable(slot, frame, exc)
        else:
            if not slot[0].done():
                slot[0].set_result(value)

    def _cancelled(self, frame: Frame) -> None:
        answered = self.lane.calls_in - len(self.running) - self._cancels
        self._cancels += 1
        self._check_guard().cancel(self.lane.share.clock(), answered)
        if self.side.answers is not None:
            self.side.answers.give_up(self, frame.id)

    def _goaway(self, frame: Frame) -> None:
        self.state = step(self.state, Input.GOAWAY)
        self.lane.ready = False
        gone = outcome.going(self.peer, frame, self.side.decoders[Serializer.MSGPACK])
        if frame.status != StatusCode.UNAVAILABLE and self.cause is None:
            self.cause = ConnectionLost(str(gone), "maybe")
        for _, slot in self.lane.table.drain(frame.id):
            _fail(slot[0], gone)
        self.side.on_drain(self)
        self._check_idle()

    # Checks

    @property
    def _answers(self) -> Any:
        return self.side.answers

    def _check_guard(self) -> PeerGuard:
        if self._guard is None:
            self._guard = PeerGuard(
                self.side.limits.ping_interval,
                cancel_burst=CANCEL_BURST + self.side.limits.max_calls,
            )
        return self._guard

    def _check_idle(self) -> None:
        if self._idle is not None and not self._idle.done() and not self.in_flight:
            self._idle.set_result(None)

    def _check_strikes(self) -> None:
        """Count replies nobody asked for; late ones to calls given up are ordinary."""
        lane = self.lane
        strikes = lane.unknown + max(0, lane.late - lane.given_up)
        fresh, self._strikes = strikes - self._strikes, strikes
        if fresh > 0:
            try:
                self._check_guard().unknown_reply(lane.share.clock(), fresh)
            except ProtocolError as exc:
                self.broken(exc)

    def _check_stall(self, now: float, late: bool) -> None:
        assert self._transport is not None
        unsent = self._transport.get_write_buffer_size()
        if unsent != self._unsent or not self._stall or late:
            self._unsent, self._stall = unsent, now
        elif now - self._stall > self.side.limits.write_stall:
            self._give_up(f"has read nothing for {now - self._stall:.0f} s, {unsent} bytes wait")

    def _check_partial(self, now: float, late: bool) -> None:
        lane, limits = self.lane, self.side.limits
        frames = lane.calls_in + lane.replies_in
        if not lane.waiting or frames != self._frames_seen or late or lane.stalled:
            self._frames_seen, self._partial = frames, 0.0
        elif not self._partial:
            self._partial, self._partial_bytes = now, lane.bytes_in
        elif now - self._partial > limits.frame_timeout:
            rate = (lane.bytes_in - self._partial_bytes) / (now - self._partial)
            if rate < limits.frame_rate:
                self._give_up(f"a frame takes longer than {limits.frame_timeout:g} s")
            else:
                self._partial = 0.0  # large, but on its way: measure anew

    def _give_up(self, text: str) -> None:
        level = logging.INFO if self._client else logging.WARNING
        self.side.complain(level, self.peer, f"closing: {text}")
        if self.state is State.CLOSED:
            return
        self.state = step(self.state, Input.EXPIRED)
        self.cause = ConnectionLost(f"{self.peer}: {text}", "maybe")
        if self._transport is not None:
            self._transport.abort()

    def _goodbye(self, id: int, status: int, text: str) -> None:
        encode = self.side.encoders[Serializer.MSGPACK]
        assert encode is not None  # every registry has msgpack
        payload = encode({"message": text}) if text else b""
        serializer = Serializer.MSGPACK if text else Serializer.RAW
        self.lane.send(
            encode_frame(Kind.GOAWAY, id, status=status, serializer=serializer, payload=payload)
        )

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def _with_nonce(option: Option, nonce: str) -> Option:
    return replace(option, nonce=nonce)


def _fail(waiter: Any, exc: Exception) -> None:
    if not waiter.done():
        waiter.set_exception(exc)


def _lost(cause: Exception, name: str) -> Exception:
    """Return an exception of its own for each call: tracebacks are not shared."""
    if isinstance(cause, ConnectionLost):
        return ConnectionLost(f"{name}: {cause}", "maybe")
    return ConnectionLost(f"{name}: {type(cause).__name__}: {cause}", "maybe")


