"""Stand between clients and a server, and do to their calls what `Faults` says.

    async with FaultRelay(server.targets[0], faults) as relay:
        client = fastrpc.connect(relay.target)

It reads frames, so it knows calls and methods, and needs nothing of either side: a server in
another process can stand behind it, and clients of any language before it. What servers call
at their clients meets the same rules. TLS, HTTP and WebSocket can't be looked into.

Rules of the room:
  * a call that no rule is for passes unchanged, in order;
  * when one end is lost the other is closed behind the last byte, delayed ones included;
  * what comes in is not read while the other end can't take it.
"""

import asyncio
import contextlib
import functools
import itertools
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, final

from fastrpc.errors import ConfigError, ConnectFailed, FrameError
from fastrpc.testing.faults import Deed, FaultKind, Faults, Rule
from fastrpc.testing.ledger import Head, Ledger, Passage, answer_of, split, with_id
from fastrpc.transport import Listener, dial, listen, parse_target
from fastrpc.wire import Kind

__all__ = ["FaultRelay"]

_LOG: Final = logging.getLogger("fastrpc.testing")
_NUMBERS: Final = itertools.count(1)
_REQUESTS: Final = (Kind.CALL, Kind.OPEN)
_OF_CALLS: Final = (*_REQUESTS, Kind.DATA, Kind.HALF, Kind.CREDIT, Kind.CANCEL)

#: The two ends of a connection.
_CLIENT: Final = 0
_SERVER: Final = 1


@final
class FaultRelay:
    """A relay to *target* that lets calls meet faults. Use it with `async with`.

    Args:
        target: The real server: tcp, unix or mem.
        faults: What shall go wrong; may be changed at any time.
        at: Where the relay listens: as the server does, at a place of its own, by default.
        timeout: Seconds to wait for the real server to accept.

    Attributes:
        target: What to connect to.
        connections: How many clients have connected so far.
    """

    def __init__(
        self, target: str, faults: Faults, *, at: str | None = None, timeout: float = 3.0
    ) -> None:
        where = parse_target(target)
        if where.scheme not in ("tcp", "unix", "mem"):
            raise ConfigError(f"target {where}: a relay can't look into {where.scheme}://")
        self.target = ""
        self.connections = 0
        self.server = target
        self.faults = faults
        self.lines: set[_Line] = set()
        self.timeout = timeout
        own = f"mem://relay-{next(_NUMBERS)}" if where.scheme == "mem" else "tcp://127.0.0.1:0"
        self._at = own if at is None else at
        self._listener: Listener | None = None
        self._is_frozen = False

    async def __aenter__(self) -> "FaultRelay":
        """Start listening."""
        self._listener = await listen(self._at, self._accept)
        self.target = self._listener.targets[0]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening, and end every connection."""
        self.close()
        self.cut()
        await self.wait_gone()

    def close(self) -> None:
        """Let nobody in any more; connections stay. Twice is fine."""
        if self._listener is not None:
            self._listener.close()

    async def wait_gone(self) -> None:
        """Wait until all connections have ended, after `close`."""
        if self._listener is not None:
            await self._listener.wait_closed()
        dials = [line.dialling for line in self.lines if line.dialling is not None]
        gone = [line.gone for line in self.lines if line.gone is not None]
        if dials or gone:
            await asyncio.wait([*dials, *gone])

    @property
    def is_frozen(self) -> bool:
        """Whether nothing is carried; who connects is let in, and hears nothing.

        So is a server that hangs: its kernel takes connections and bytes, and nobody reads.
        """
        return self._is_frozen

    @is_frozen.setter
    def is_frozen(self, value: bool) -> None:
        self._is_frozen = value
        for line in self.lines:
            line.arrange()

    def cut(self) -> None:
        """End every connection now, on both sides."""
        for line in list(self.lines):
            line.abort()

    def _accept(self) -> asyncio.BaseProtocol:
        line = _Line(self, self.connections)
        self.connections += 1
        return line.ends[_CLIENT]


class _End(asyncio.Protocol):
    """One end of a connection."""

    def __init__(self, line: "_Line", side: int) -> None:
        self.transport: Any = None  # an asyncio.Transport, but uvloop's are none by class
        self.is_full = False
        self.is_reading = True
        self._line = line
        self._side = side
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._line.opened(self._side)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._line.is_running:
            self.carry()

    def carry(self) -> None:
        """Let whole frames go on."""
        try:
            for frame in split(self._buffer):
                self._line.take(self._side, frame)
        except FrameError as error:
            self._line.stranger(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._line.lost(self._side)

    def pause_writing(self) -> None:
        self.is_full = True
        self._line.arrange()

    def resume_writing(self) -> None:
        self.is_full = False
        self._line.arrange()


@final
class _Line:
    """One client's connection, and the one to the server that belongs to it."""

    def __init__(self, relay: FaultRelay, number: int) -> None:
        self.ends = (_End(self, _CLIENT), _End(self, _SERVER))
        self.dialling: asyncio.Task[None] | None = None
        self.gone: asyncio.Future[None] | None = None
        self._relay = relay
        self._faults = relay.faults
        self._number = number
        self._ledgers = (Ledger(), Ledger())
        # What is delayed, by the end that it came from.
        self._later: tuple[set[asyncio.TimerHandle], ...] = (set(), set())
        self._is_lost = [False, False]

    # Beginning and ending

    def opened(self, side: int) -> None:
        """Dial for a client that came; both are read once both are there."""
        if side == _CLIENT:
            loop = asyncio.get_running_loop()
            self.gone = loop.create_future()
            self._relay.lines.add(self)
            self.dialling = loop.create_task(self._dial())
        # Not at once: uvloop begins to read only after `connection_made`.
        asyncio.get_running_loop().call_soon(self.arrange)

    async def _dial(self) -> None:
        with contextlib.suppress(ConnectFailed):
            relay = self._relay
            await dial(relay.server, lambda: self.ends[_SERVER], timeout=relay.timeout)
            return
        self.abort()

    @property
    def is_running(self) -> bool:
        """Whether frames are carried."""
        is_whole = all(end.transport is not None for end in self.ends)
        return is_whole and not self._relay.is_frozen

    def arrange(self) -> None:
        """Read from those whose bytes can go on, and let go on what waits."""
        is_running = self.is_running
        for side, end in enumerate(self.ends):
            if end.transport is None or end.transport.is_closing():
                continue
            wanted = is_running and not self.ends[1 - side].is_full
            if end.is_reading != wanted:
                end.is_reading = wanted
                (end.transport.resume_reading if wanted else end.transport.pause_reading)()
            if is_running:
                end.carry()

    def lost(self, side: int) -> None:
        """Close the other end once what came from here has gone there."""
        self._is_lost[side] = True
        other = self.ends[1 - side].transport
        if other is None:
            if self.dialling is not None:
                self.dialling.cancel()
            self._is_lost[1 - side] = True
        elif not self._later[side]:
            other.close()
        if all(self._is_lost):
            self._relay.lines.discard(self)
            for handle in (*self._later[0], *self._later[1]):
                handle.cancel()
            if self.gone is not None and not self.gone.done():
                self.gone.set_result(None)

    def abort(self) -> None:
        """End both sides now."""
        if self.dialling is not None:
            self.dialling.cancel()
        for end in self.ends:
            if end.transport is not None:
                end.transport.abort()

    def stranger(self, error: FrameError) -> None:
        """End what can't be read."""
        _LOG.error("a connection to %s is ended: %s", self._relay.server, error)
        self.abort()

    def _end_behind(self, side: int) -> None:
        """Let *side* have what was written to it, and break the connection for both."""
        for each, end in enumerate(self.ends):
            if end.transport is not None:
                if each == side:
                    end.transport.close()
                else:
                    end.transport.abort()

    # Frames

    def take(self, side: int, frame: bytes) -> None:
        """Let a frame that came from *side* pass, or not."""
        head = Head.of(frame)
        other = 1 - side
        if head.kind == Kind.GOAWAY:
            self._write(other, with_id(frame, self._ledgers[other].taken(head.id)))
        elif head.is_heartbeat or head.kind not in _OF_CALLS:
            self._write(other, frame)
        elif head.is_reply:
            self._answered(side, head, frame)
        elif head.kind in _REQUESTS:
            self._begin(side, head, frame)
        elif (passage := self._ledgers[side].open.get(head.id)) is not None:
            self._follow(side, passage, frame)

    def _write(self, side: int, data: bytes) -> None:
        transport = self.ends[side].transport
        if transport is not None and not transport.is_closing():
            transport.write(data)

    def _do_later(self, side: int, seconds: float, what: Callable[..., None], *args: Any) -> None:
        """Do something to what came from *side*, after a while."""
        waiting = self._later[side]

        def do() -> None:
            waiting.discard(handle)
            what(*args)
            other = self.ends[1 - side].transport
            if self._is_lost[side] and not waiting and other is not None:
                other.close()

        handle = asyncio.get_running_loop().call_later(seconds, do)
        waiting.add(handle)

    # Requests

    def _begin(self, side: int, head: Head, frame: bytes) -> None:
        ledger = self._ledgers[side]
        method = ledger.name_of(frame)
        rules = self._faults.fate(method, is_stream=head.kind == Kind.OPEN)
        passage = Passage(head.id, method, rules, frame, head.is_oneway)
        ledger.begin(passage)
        if passage.rule(FaultKind.LOSE_REQUEST):
            self._note(FaultKind.LOSE_REQUEST, passage)
            passage.is_lost = True
            if head.is_oneway:
                ledger.end(passage)
        elif delay := passage.rule(FaultKind.DELAY, "request"):
            seconds = delay.wait()
            self._note(FaultKind.DELAY, passage, f"request, {seconds:.3f} s")
            passage.held = []
            self._do_later(side, seconds, self._release, side, passage)
        else:
            self._send(side, passage)

    def _release(self, side: int, passage: Passage) -> None:
        """Let a delayed request go, and what has followed it."""
        held, passage.held = passage.held or [], None
        self._send(side, passage)
        for frame in held:
            self._follow(side, passage, frame)

    def _follow(self, side: int, passage: Passage, frame: bytes) -> None:
        """Let what belongs to a call go where its request has gone."""
        is_cancel = Head.of(frame).kind == Kind.CANCEL
        if passage.held is not None:
            passage.held.append(frame)
        elif passage.is_lost:
            if is_cancel:
                self._ledgers[side].end(passage)
        else:
            passage.is_cancelled = passage.is_cancelled or is_cancel
            for number in passage.sent:
                self._write(1 - side, with_id(frame, number))

    def _send(self, side: int, passage: Passage) -> None:
        ledger, other = self._ledgers[side], 1 - side
        frame = ledger.number(passage)
        if cut := passage.rule(FaultKind.CUT, "request"):
            self._cut(other, cut, passage, frame)
            return
        self._write(other, frame)
        twice = passage.rule(FaultKind.DUPLICATE)
        if twice and (passage.is_oneway or not twice.is_late):
            self._write(other, ledger.number(passage))
        fail = passage.rule(FaultKind.FAIL)
        if passage.is_oneway:
            if twice:
                self._note(FaultKind.DUPLICATE, passage)
            ledger.end(passage)
        if fail and not fail.is_late:
            seconds = fail.wait()
            if seconds:
                self._do_later(side, seconds, self._break, other, passage)
            else:
                self._break(other, passage)

    def _break(self, side: int, passage: Passage) -> None:
        """Break the connection; *side*, the callee, still gets its request."""
        if not passage.is_oneway and passage.id not in self._ledgers[1 - side].open:
            return  # it was given up meanwhile, and has ended
        self._note(FaultKind.FAIL, passage)
        self._end_behind(side)

    def _cut(self, side: int, rule: Rule, passage: Passage, frame: bytes) -> None:
        place = rule.place(len(frame))
        detail = f"{rule.part}, {place} of {len(frame)} bytes"
        self._note(FaultKind.CUT, passage, detail)
        self._write(side, frame[:place])
        self._end_behind(side)

    # Replies

    def _answered(self, side: int, head: Head, frame: bytes) -> None:
        """Let what the callee says of a call go to the caller, or not."""
        ledger, caller = self._ledgers[1 - side], 1 - side
        passage = ledger.sent.get(head.id)
        if passage is None:
            return
        if head.kind != Kind.CALL or passage.is_cancelled:
            if head.kind == Kind.CALL:
                ledger.end(passage)
            self._write(caller, with_id(frame, passage.id))
            return
        passage.answers[head.id] = frame
        if twice := passage.rule(FaultKind.DUPLICATE):
            if twice.is_late and len(passage.sent) == 1:
                self._write(side, ledger.number(passage))
            if len(passage.answers) < 2:
                return
            self._compare(passage)
        ledger.end(passage)
        self._reply(side, passage, with_id(passage.answers[passage.sent[0]], passage.id))

    def _compare(self, passage: Passage) -> None:
        first, second = (answer_of(passage.answers[number]) for number in passage.sent)
        detail = "both answers are the same" if first == second else "the answers differ"
        self._note(FaultKind.DUPLICATE, passage, detail, is_different=first != second)

    def _reply(self, side: int, passage: Passage, frame: bytes) -> None:
        caller = 1 - side
        if passage.rule(FaultKind.FAIL):
            self._note(FaultKind.FAIL, passage, "reply lost")
            self._end_behind(side)
        elif passage.rule(FaultKind.LOSE_REPLY):
            self._note(FaultKind.LOSE_REPLY, passage)
        elif cut := passage.rule(FaultKind.CUT, "reply"):
            self._cut(caller, cut, passage, frame)
        elif delay := passage.rule(FaultKind.DELAY, "reply"):
            seconds = delay.wait()
            self._note(FaultKind.DELAY, passage, f"reply, {seconds:.3f} s")
            self._do_later(side, seconds, functools.partial(self._write, caller, frame))
        else:
            self._write(caller, frame)

    def _note(
        self, kind: FaultKind, passage: Passage, detail: str = "", *, is_different: bool = False
    ) -> None:
        server = self._relay.server
        deed = Deed(kind, passage.method, passage.id, self._number, server, detail)
        self._faults.note(deed, is_different=is_different)
