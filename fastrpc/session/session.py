"""Keep one live connection: open it, feed its lane, keep it alive, end it.

The plain call never passes here; the lane has it. What does pass is everything
about the connection as a whole, and every frame that is no plain call.

Rules of the room:
  * states and what may follow stand in `protocol.states`; here they are only acted on;
  * when the connection ends, everything open ends with it, at once and with a reason;
  * nothing is awaited: all of it is callbacks, so no cancel can leave it half done.

Size: may grow to 605, for loop, lane and owner meet here, each with a dozen callbacks
of a few lines; what is more than that stands apart (control, opening, flow, streams).
"""

import asyncio
import logging
import os
import sys
from typing import Any, cast, final

from fastrpc.errors import ConnectionLost, FastRPCError, ProtocolError
from fastrpc.frame import Frame, Lane, Method, Outlet, encode_frame
from fastrpc.protocol import Input, Option, State, step
from fastrpc.session import opening, outcome
from fastrpc.session.control import Control
from fastrpc.session.farewell import part
from fastrpc.session.flow import WRITE_HIGH, writelines_of
from fastrpc.session.peer import ConnectedPeer
from fastrpc.session.running import Fate, Running
from fastrpc.session.side import Side
from fastrpc.session.streams import Streams
from fastrpc.session.watch import Watch
from fastrpc.transport import explain_loss, peer_of
from fastrpc.wire import ID_MAX, Kind, Serializer, StatusCode

_BASELINE = frozenset({int(Serializer.RAW), int(Serializer.MSGPACK), int(Serializer.JSON)})


@final
class Session(asyncio.BufferedProtocol):
    """One connection, either end of it.

    Args:
        side: What all connections of this server or client share.
        client: Whether this end made the connection.
        address: The target, for messages; a server's sessions find the peer's.
        since: When the connection was made, 0 for now.
    """

    __slots__ = (
        "__weakref__", "_control", "_deadline", "_gone", "_held", "_idle", "_nonce", "_peer",
        "_streams", "_timer", "_transport", "_watch", "agent", "buffer_updated", "cause",
        "get_buffer", "is_client", "is_draining", "is_lasting", "lane", "payloads", "peer",
        "peer_interval", "peer_leaves", "peer_window", "running", "serializers", "side", "state",
    )  # fmt: skip

    def __init__(self, side: Side, *, client: bool, address: str = "", since: float = 0.0) -> None:
        """Wait for `connection_made`."""
        self.side = side
        self.lane = Lane(self, side.share, side.limits.max_hello)
        # The loop gets the lane's own methods: no Python frame per read.
        self.get_buffer = self.lane.get_buffer  # type: ignore[method-assign, assignment]
        reads_on = client and side.router is not None
        take = self._take if reads_on else side.around(self, self.lane.buffer_updated)
        self.buffer_updated = take  # type: ignore[method-assign]
        self.state = State.CONNECTING
        self.peer = address
        self.agent = ""  # what the peer calls its program
        self.peer_interval = 0.0  # shortest time between pings that the peer takes
        self.peer_window = 0  # credit for each stream that we send on
        self.serializers = _BASELINE
        self.payloads = side.plain
        self.running: dict[int, Running] = {}
        self.cause: Exception | None = None  # why it ended, once it has
        self.is_client = client
        self._transport: asyncio.Transport | None = None
        self._watch = Watch(side.limits, since or side.share.clock())
        self._control = Control()
        self._nonce = ""
        self._streams: Streams | None = None  # most connections have none
        self._peer: ConnectedPeer | None = None
        self._held: list[asyncio.Future[None]] = []  # handlers whose results wait
        self._idle: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0  # of the timer
        self.is_lasting = False  # the peer sends no more, but gets its answers
        self.is_draining = False  # calls that come are refused
        self.peer_leaves = False  # the peer takes no more calls; its own it may still make

    def __repr__(self) -> str:
        """Tell peer and state."""
        return f"<Session {self.peer} {self.state.value}>"

    @property
    def door(self) -> str:
        """What its frames came in by, the name of a server's door."""
        transport = self._transport
        found = transport.get_extra_info("door") if transport is not None else None
        return found or "fastrpc"

    @property
    def may_call(self) -> bool:
        """Whether the peer takes calls; it may while we drain, for handlers that need it."""
        return self.state in (State.OPEN, State.DRAINING) and not self.peer_leaves

    @property
    def is_full(self) -> bool:
        """Whether results have to wait until the peer reads."""
        return self.lane.paused and self.unsent() >= self.side.limits.max_unsent

    @property
    def streams(self) -> Streams:
        """The streams that are open."""
        if self._streams is None:
            self._streams = Streams()
        return self._streams

    @property
    def as_peer(self) -> ConnectedPeer:
        """The other end, as something to call."""
        if self._peer is None:
            self._peer = ConnectedPeer(self)
        return self._peer

    @property
    def since(self) -> float:
        """When the connection was made."""
        return self._watch.since

    @property
    def sessions(self) -> "tuple[Session, ...]":
        """What stands behind the connection: nobody else."""
        return (self,)

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes of frames that were read, and that were written."""
        return self.lane.bytes_in, self.lane.bytes_out

    @property
    def in_flight(self) -> int:
        """Calls open in either direction."""
        return len(self.running) + len(self.lane.table)

    def call_id(self, id: int) -> str:
        """Return what both ends call a call of the client's."""
        return outcome.call_id(self._nonce, id)

    def info(self, name: str) -> Any:
        """Return what the transport knows, see `asyncio.BaseTransport.get_extra_info`."""
        return self._transport.get_extra_info(name) if self._transport is not None else None

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: say HELLO, or wait for the peer's."""
        transport = cast("asyncio.Transport", transport)  # uvloop has a class of its own
        self._transport = transport
        if self.state is State.CLOSED:  # given up before it was made
            transport.abort()
            return
        self.state = step(self.state, Input.CONNECTED)
        if not self.peer:
            self.peer = peer_of(transport)
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        self.lane.attach(transport.write, writelines_of(transport))
        self.side.ticker.watch(self)
        if self.is_client:
            self._nonce = os.urandom(16).hex()
            self.lane.send(opening.greeting(self.side.option, self._nonce))
            self.lane.flush()
        self.side.on_accept(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End everything that was open."""
        why = f": {explain_loss(exc)}" if exc else " by the peer" if self.is_client else ""
        text = f"{self.peer}: the connection was closed{why}"
        self._end(ConnectionLost(text, "maybe"), Input.LOST)
        assert self.cause is not None  # whoever ends says why
        self.side.ticker.forget(self)
        if self.side.unread is not None:
            self.side.unread.forget(self)
        self._transport = None
        # They hold the lane; without them nothing does once the loop lets go.
        del self.get_buffer, self.buffer_updated
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        self.side.on_lost(self, self.cause)

    def eof_received(self) -> bool:
        """Let a peer that sends no more still have its answers."""
        self.lane.flush()
        lasts = self._transport is not None and self._transport.can_write_eof()  # TLS has no half
        if self.running and lasts and not self.is_client:
            self.is_lasting = True
            # It may as well be gone altogether: then writing to it will tell.
            self._control.send_ping(self)
            return True
        text = f"{self.peer}: the connection was closed by the peer"
        self._end(ConnectionLost(text, "maybe"), Input.LOST)
        return False

    def pause_writing(self) -> None:
        """Stop taking requests: their answers would pile up unread.

        Only the end that accepted the connection stops at once. If both did, each could
        wait for the other to read; the one that dialled reads on up to `max_unsent`.
        """
        self.lane.paused = True
        self.lane.ready = False
        self._watch.unstalled()
        if not self.is_client and self._transport is not None:
            self._transport.pause_reading()
        self._note_unread()

    def resume_writing(self) -> None:
        """Go on: the peer has read."""
        self.lane.paused = False
        self._watch.unstalled()
        if self.side.unread is not None:
            self.side.unread.forget(self)
        if self.state is State.CLOSED:
            return
        self.lane.ready = self.may_call
        self._release()
        if self._streams is not None:
            self._streams.release()
        self.side.around(self, self.lane.resume)()
        if self.is_client:
            self._read_on()
        elif self._transport is not None and not self.lane.paused:
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
            else:
                self._control.take(self, frame)

    def broken(self, exc: Exception) -> None:
        """End a connection whose input makes no sense any more."""
        if self.state is State.CLOSED:
            return
        status, words = opening.words(exc)
        stranger = opening.stranger(exc, self.is_client, self.state, self.peer)
        cause, last = stranger or (exc, self._goodbye(self.lane.last_id, status, words))
        if isinstance(exc, FastRPCError):  # a client's caller gets it as an exception
            level = logging.DEBUG if self.is_client else logging.WARNING
            self.side.complain(level, self.peer, f"closing: {words}")
        else:  # ours, not the peer's: the connection's state is unknown, so it goes
            about = type(exc).__name__
            self.side.complain(logging.ERROR, self.peer, f"closing: {words}", exc, about)
        self.shut(cause, Input.FAILED, last)

    def start(self, method: Method, frame: Frame, args: Any) -> None:
        """Run a handler that the lane may not run."""
        self._answers.start(self, method, frame, args)

    def waits(self, method: Method, frame: Frame, args: Any, rest: Any) -> None:
        """Go on with a call that waits after its first step."""
        self._answers.waits(self, method, frame, args, rest)

    def replied(self, method: Method, frame: Frame, reply: Any) -> None:
        """Send a reply with its metadata."""
        self._answers.replies.result(self, method, frame, reply, 0)

    def bind(self, method: Method, frame: Frame, exc: Exception | None) -> None:
        """Run a call by name, or say what is wrong with its arguments."""
        self._answers.bind(self, method, frame, exc)

    def expired(self, method: Method, frame: Frame) -> None:
        """Answer a call that came too late."""
        self._answers.replies.expired(self, method, frame)

    def raised(self, method: Method, frame: Frame, exc: BaseException) -> None:
        """Answer a call whose handler raised."""
        self._answers.replies.raised(self, method, frame, exc)

    def unsendable(self, method: Method, frame: Frame, exc: Exception | None) -> None:
        """Answer a call whose result can't be sent."""
        self._answers.replies.unsendable(self, method, frame, exc)

    def answered(self, slot: outcome.Slot, frame: Frame) -> None:
        """End a call with a reply that is no plain value."""
        if frame.status == StatusCode.NOT_FOUND:
            self.lane.forget(slot[2])
        call = self.call_id(frame.id)
        outcome.settle(slot, frame, self.lane, self.side, self.payloads, self.peer, call)

    def undecodable(self, slot: outcome.Slot, frame: Frame, exc: Exception) -> None:
        """End a call whose reply can't be read."""
        outcome.fail(slot[0], outcome.undecodable(slot, exc))

    def tick(self) -> None:
        """Begin to look for late and cancelled calls."""
        self.side.ticker.hurry(self)

    def room(self) -> None:
        """Tell those who wait that replies came."""
        if self._peer is not None:  # it is crowded because of `until_room`
            self.lane.crowded = False
            self._release()
        self.side.on_room(self)

    def hold(self, outlet: Outlet) -> None:
        """Wake *outlet* when the peer has read."""
        self.streams.hold(outlet)

    def inline(self, serializer: int, value: Any) -> bytes:
        """Return *value* encoded for a peer that takes nothing beside a payload."""
        return self.side.inline(serializer, value)

    # What the ticker calls

    def fast_tick(self, now: float) -> bool:
        """Expire our own calls; return whether there may be more."""
        if self.state is State.CLOSED:
            return False
        for name, started, deadline, waiter in [
            (slot[2], slot[3], slot[4], slot[0]) for slot in self.lane.sweep(now)
        ]:
            outcome.fail(waiter, outcome.late(name, started, deadline, now, self.peer))
        if self.lane.crowded:
            self.side.on_room(self)
        self.check_idle()
        return self.lane.ticking

    def slow_tick(self, now: float, late: bool) -> None:
        """Find peers that are silent, stalled, slow, or that never said HELLO."""
        watch, lane = self._watch, self.lane
        if self.state is State.HELLO:
            self._give_up(watch.no_hello(now, late))
            return
        if self.state is State.CLOSED:
            unsent = self.unsent()
            if watch.may_leave(now, late, lane.bytes_out - unsent, unsent) and self._transport:
                self._transport.abort()
            return
        try:
            self._give_up(self._control.look(self, watch, now, late))
        except ProtocolError as exc:
            self.broken(exc)

    # Requests of the owner, and of the answerer

    def ping(self) -> "asyncio.Future[float]":
        """Send a ping; the future gets the seconds until its pong."""
        waiter = self._control.ping(self)
        if self.state is State.CLOSED:
            self._control.end(self.cause or ConnectionLost(f"{self.peer}: closed"))
        return waiter

    def expect(self, deadline: float) -> None:
        """Look after a handler that must end by *deadline*."""
        # One timer for all of them: it is set anew when it fires, not with each call.
        if self._timer is None or deadline < self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._deadline = deadline
            delay = max(deadline - self.lane.share.clock(), 0.0)
            self._timer = self.side.ticker.loop.call_later(delay, self._expire)

    def finished(self, id: int) -> None:
        """Note that a handler has ended."""
        self.running.pop(id, None)
        if self.is_lasting and not self.running:
            self.close()
        self.check_idle()

    def check_idle(self) -> None:
        """Tell who waits for it that nothing is in flight."""
        if self._idle is not None and not self._idle.done() and not self.in_flight:
            self._idle.set_result(None)

    def hand_over(self) -> None:
        """Write what piled up in this turn, so that a slow peer is noticed in time."""
        if self.lane.unsent >= WRITE_HIGH:
            self.lane.flush()
        if self.lane.paused:
            self._note_unread()

    def until_room(self) -> "asyncio.Future[None]":
        """Return a future that is done when the peer may take another call, or is gone."""
        self.lane.crowded = True  # replies are told then
        return self.until_read()

    def until_read(self) -> "asyncio.Future[None]":
        """Return a future that is done when the peer has read, or is gone."""
        waiter: asyncio.Future[None] = self.lane.share.create_future()
        self._held.append(waiter)
        return waiter

    def detour(self, large: bool) -> None:
        """Settle whether the lane hands calls up before it decodes them.

        It does if the answerer has to look at each first: large calls are refused, the
        server drains, or HELLO left out a serializer that the lane takes by itself.

        Args:
            large: Whether large calls come that there is no place for.
        """
        self.lane.draining = large or self.is_draining or not self.serializers >= _BASELINE

    def leave(self) -> None:
        """Tell the peer to make no more calls; those under way are still taken."""
        if self.state is State.OPEN:
            self.state = step(self.state, Input.DRAIN)
            self.lane.send(self._goodbye(ID_MAX, int(StatusCode.UNAVAILABLE), ""))
        elif self.state is State.HELLO:  # nothing was taken, so there is nothing to finish
            self.abort(ConnectionLost(f"{self.peer}: shutting down", "no"))

    def drain(self) -> "asyncio.Future[None]":
        """Refuse calls from now on; the future is done when none is in flight."""
        if not self.is_draining:
            self.is_draining = True
            if self.state in (State.OPEN, State.DRAINING):
                self.detour(False)
                self.lane.send(self._goodbye(self.lane.last_id, int(StatusCode.UNAVAILABLE), ""))
        return self.until_idle()

    def until_idle(self) -> "asyncio.Future[None]":
        """Return a future that is done when no call is in flight, or the connection ends."""
        if self._idle is None:
            self._idle = self.lane.share.create_future()
        self.check_idle()
        return self._idle

    def gone(self) -> "asyncio.Future[None]":
        """Return a future that is done when the connection has ended."""
        if self._gone is None:
            self._gone = self.lane.share.create_future()
            if self._transport is None and self.state is State.CLOSED:
                self._gone.set_result(None)
        return self._gone

    def cancel_running(self, why: str) -> None:
        """Stop the handlers that still run, and tell their callers."""
        if self.running:
            self._answers.stop(self, why)

    def close(self) -> None:
        """Close after what is queued has been written."""
        self.shut(ConnectionLost(f"{self.peer}: closed here", "maybe"), Input.CLOSE)

    def dismiss(self, why: str) -> None:
        """Close after what is queued, and tell the peer that it is not wanted."""
        self.side.complain(logging.WARNING, self.peer, f"dismissed: {why}")
        last = self._goodbye(self.lane.last_id, int(StatusCode.FORBIDDEN), why)
        self.shut(ConnectionLost(f"{self.peer}: dismissed: {why}", "maybe"), Input.CLOSE, last)

    def abort(self, cause: Exception) -> None:
        """Close at once."""
        self._end(cause, Input.CLOSE)
        if self._transport is not None:
            self._transport.abort()

    def shut(self, cause: Exception, event: Input, last: bytes = b"") -> None:
        """Close for *cause* after what is queued, and *last*, have been written."""
        if self.state is State.CLOSED:
            return
        if last:
            self.lane.send(last)
        self.lane.flush()
        self._end(cause, event)
        if self._transport is None:
            return
        if self.is_lasting or (self.is_client and not last):
            self._transport.close()  # no more can come, or nobody minds
        else:
            part(self._transport, self.connection_lost)

    # HELLO

    def _hello(self, frame: Frame) -> None:
        if self.state is not State.HELLO:
            self.state = step(self.state, Input.HELLO)  # raises: it is the second
        opening.check(frame, self.is_client, self.side.limits.max_hello)
        if self.is_client:
            answer = opening.welcome(frame, self.side.option, self._nonce, self.peer)
            if isinstance(answer, FastRPCError):
                self.shut(answer, Input.REFUSED)
                return
            self._agree(answer, answer)
        else:
            try:
                agreed, asked, words = opening.accept(frame, self.side.option, self.side.nonces)
            except ProtocolError as exc:
                if exc.status == StatusCode.PROTOCOL:
                    raise
                self.side.complain(logging.WARNING, self.peer, f"HELLO refused: {exc}")
                self.shut(exc, Input.REFUSED, opening.refuse(exc.status, str(exc)))
                return
            self._nonce = asked.nonce[: outcome.TAG_MAX]
            self._agree(agreed, asked)
            self.lane.send(words)
        self.side.on_open(self)

    def _agree(self, agreed: Option, peer: Option) -> None:
        """Put in force what both sides accept."""
        self.state = step(self.state, Input.HELLO)
        self.agent = sys.intern(peer.agent)  # nearly all are the same
        self.peer_interval = peer.ping_ms / 1000.0
        self.peer_window = peer.window
        serializers = frozenset(agreed.codecs.values())
        # Nearly all connections agree on the same, and ten thousand may be idle.
        self.serializers = _BASELINE if serializers == _BASELINE else serializers
        self.payloads = self.side.agree(self.lane, agreed, peer)
        self.detour(False)
        self.lane.ready = not self.lane.paused
        self._watch.greeted(self.lane.share.clock())

    # Inside

    @property
    def _answers(self) -> Any:
        return self.side.answers

    def _end(self, cause: Exception, event: Input) -> None:
        """End everything that is open; nothing is sent or taken from now on."""
        if self.state is State.CLOSED:
            return
        self.state = step(self.state, event)
        if self.cause is None:
            self.cause = cause
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        open_calls = self.lane.detach()
        for running in list(self.running.values()):
            name = running.method.info.info.name
            running.settle(Fate.UNWANTED, cause=outcome.lost(self.cause, name))
        for _, slot in open_calls:
            outcome.fail(slot[0], outcome.lost(self.cause, slot[2]))
        self._control.end(self.cause)
        if self._streams is not None:
            self._streams.end(outcome.lost(self.cause, "the stream"))
        self._release()
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        self.side.on_end(self, self.cause)

    def _take(self, nbytes: int) -> None:
        """Take what came, as the end that dialled and that the peer may call."""
        self.lane.buffer_updated(nbytes)
        if self.lane.stalled:
            self._read_on()

    def _read_on(self) -> None:
        """Go on reading, although the peer does not, as long as that is not too much."""
        lane, transport = self.lane, self._transport
        while lane.stalled and not self.is_full:
            lane.resume()  # up to and with the next request
        if transport is None or self.state is State.CLOSED:
            return
        if lane.stalled:
            transport.pause_reading()
        elif not transport.is_reading():
            transport.resume_reading()

    def _expire(self) -> None:
        self._timer = None
        soonest = self._answers.expire(self, self.lane.share.clock())
        if soonest:
            self.expect(soonest)

    def _release(self) -> None:
        """Let held results try again."""
        held, self._held = self._held, []
        for waiter in held:
            if not waiter.done():
                waiter.set_result(None)

    def _note_unread(self) -> None:
        if self.side.unread is not None and self._transport is not None:
            self.side.unread.note(self, self.unsent)

    def unsent(self) -> int:
        """Bytes that the peer has not read, as far as we can see."""
        queued = self._transport.get_write_buffer_size() if self._transport is not None else 0
        return queued + self.lane.unsent

    def _give_up(self, text: str) -> None:
        if not text or self.state is State.CLOSED:
            return
        level = logging.INFO if self.is_client else logging.WARNING
        self.side.complain(level, self.peer, f"closing: {text}")
        self._end(ConnectionLost(f"{self.peer}: {text}", "maybe"), Input.EXPIRED)
        if self._transport is not None:
            self._transport.abort()

    def _goodbye(self, id: int, status: int, text: str) -> bytes:
        payload = self.inline(Serializer.MSGPACK, {"message": text}) if text else b""
        serializer = Serializer.MSGPACK if text else Serializer.RAW
        return encode_frame(Kind.GOAWAY, id, status=status, serializer=serializer, payload=payload)
