"""Take a snapshot of a server.

Rules of the room:
  * looking changes nothing but what is looked with;
  * every list has a most, and the rest is counted; every text has, too.
"""

import os
import platform
from collections import Counter
from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, final
from weakref import WeakKeyDictionary, ref

from fastrpc.call import Identity, Mode, read_identity
from fastrpc.frame import COMPILED, Method
from fastrpc.observe.facts import (
    CallFacts,
    ConnectionFacts,
    Facts,
    MethodFacts,
    ServerFacts,
)
from fastrpc.observe.lag import LagFacts, LagSampler
from fastrpc.observe.stack import stack_of
from fastrpc.policy.timing import percentile
from fastrpc.protocol import State
from fastrpc.server.doorway import Doorway, Visitor
from fastrpc.server.options import AGENT
from fastrpc.session import Session
from fastrpc.session.routes import SAMPLED, failures_of
from fastrpc.session.running import Fate, Running
from fastrpc.wire import StatusCode

if TYPE_CHECKING:
    from fastrpc.server.hall import Hall
    from fastrpc.server.server import Server

MOST_METHODS: Final = 1000
MOST_CONNECTIONS: Final = 500
MOST_CALLS: Final = 200
LONGEST_TEXT: Final = 200


@final
class Watcher:
    """Looks at one server; there is one for each that somebody looks at.

    Args:
        hall: Of the server.

    Attributes:
        sampler: Watches the loop.
    """

    def __init__(self, hall: "Hall") -> None:
        self._hall = ref(hall)  # the table of watchers must not keep it
        self._numbers: WeakKeyDictionary[Session | Visitor, int] = WeakKeyDictionary()
        self._last = 0
        ticker = hall.side.ticker
        self.sampler = LagSampler(ticker.loop, ticker.share.clock, self._is_over)

    def number_of(self, visitor: Session | Visitor) -> int:
        """Return what a connection is called; it keeps its number."""
        number = self._numbers.get(visitor)
        if number is None:
            self._last += 1
            number = self._numbers[visitor] = self._last
        return number

    def session_of(self, number: int) -> Session | None:
        """Return the session of that number, None if it is gone."""
        hall = self._hall()
        for session in hall.sessions if hall is not None else ():
            if self._numbers.get(session) == number:
                return session
        return None

    def look(self, *, watches: bool = False, parts: int = 0) -> Facts:
        """Take a snapshot.

        Args:
            watches: Whether somebody goes on looking, so that the loop should be watched.
            parts: How many buckets of a histogram there are to a doubling; 0 for all.
        """
        hall = self._hall()
        assert hall is not None  # who asks has it
        now = hall.clock()
        ticker = hall.side.ticker
        running = hall.side.answers.in_flight if hall.side.answers is not None else []
        methods, methods_cut = _methods(hall, running, parts)
        rows = _rows(hall)
        connections = tuple(
            _connection(self.number_of(visitor), visitor, door, now)
            for visitor, door in rows[:MOST_CONNECTIONS]
        )
        return Facts(
            server=_server(hall, now),
            methods=methods,
            connections=connections,
            calls=self._calls(hall, running, now),
            lag=LagFacts(
                worst=self.sampler.look() if watches else (),
                last_tick=ticker.lag,
                worst_tick=ticker.worst_lag,
                late_ticks=ticker.late_ticks,
            ),
            limits=_limits(hall),
            cut={
                "methods": methods_cut,
                "connections": max(len(rows) - MOST_CONNECTIONS, 0),
                "calls": max(len(running) - MOST_CALLS, 0),
            },
            doors=dict(Counter(visitor.door for visitor in hall.admission.visitors)),
        )

    def _calls(self, hall: "Hall", running: list[Running], now: float) -> tuple[CallFacts, ...]:
        homes = {
            id(call): session for session in hall.sessions for call in session.running.values()
        }
        first = sorted(running, key=lambda call: call.started)[:MOST_CALLS]
        return tuple(self._call(call, homes.get(id(call)), now) for call in first)

    def _call(self, running: Running, session: Session | None, now: float) -> CallFacts:
        given_up = running.fate is not Fate.OWED
        at_work = "runs" if running.can_stop else "in a thread"
        return CallFacts(
            connection=self.number_of(session) if session is not None else 0,
            number=running.frame.id,
            id=session.call_id(running.frame.id) if session is not None else "",
            method=running.method.name.decode(),
            peer=clipped(session.peer) if session is not None else "",
            age=now - running.started,
            left=running.deadline - now if running.deadline else None,
            state="given up" if given_up else at_work,
            stack=tuple(map(clipped, stack_of(running))),
        )

    def _is_over(self) -> bool:
        hall = self._hall()
        return hall is None or hall.is_closing


_watchers: WeakKeyDictionary["Hall", Watcher] = WeakKeyDictionary()


def watcher_of(hall: "Hall") -> Watcher:
    """Return who looks at the server of *hall*."""
    watcher = _watchers.get(hall)
    if watcher is None:
        watcher = _watchers[hall] = Watcher(hall)
    return watcher


def snapshot(server: "Server") -> Facts:
    """Return what can be seen of *server* now; it must have been started.

    Call it on the server's event loop.
    """
    return watcher_of(server.hall).look()


def clipped(text: str) -> str:
    """Return *text*, its end left away if it is too long."""
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def _server(hall: "Hall", now: float) -> ServerFacts:
    stats, side = hall.server.stats(), hall.side
    loop = type(side.ticker.loop)
    lanes = [session.lane for session in hall.sessions]
    return ServerFacts(
        state=stats.state.value,
        agent=AGENT,
        pid=os.getpid(),
        uptime=now - side.ticker.since,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        loop=loop.__module__.partition(".")[0],
        is_compiled=COMPILED,
        places=hall.server.doors_by_target,
        calls=stats.calls,
        running=stats.running,
        refused=stats.refused,
        connections=stats.connections,
        accepted=stats.accepted,
        turned_away=stats.turned_away,
        bytes_in=hall.bytes_in + sum(lane.bytes_in for lane in lanes),
        bytes_out=hall.bytes_out + sum(lane.bytes_out for lane in lanes),
        unsent=sum(session.unsent() for session in hall.sessions),
    )


def _methods(
    hall: "Hall", running: Iterable[Running], parts: int
) -> tuple[tuple[MethodFacts, ...], int]:
    table = hall.side.router or {}
    in_flight = Counter(call.method.name for call in running)
    called = [m for m in table.values() if m.calls or m.shed or m.info.failures]
    told = tuple(_method(m, in_flight[m.name], parts) for m in called[:MOST_METHODS])
    return told, max(len(called) - MOST_METHODS, 0)


def _method(method: Method, running: int, parts: int) -> MethodFacts:
    times = method.times
    buckets = times.buckets() if times is not None else []
    longest = times.max if times is not None else 0.0
    return MethodFacts(
        name=method.name.decode(),
        calls=method.calls,
        failures={_word(status): count for status, count in failures_of(method).items()},
        running=running,
        is_sampled=method.info.info.mode in (Mode.SYNC, Mode.INLINE),
        timed=times.count if times is not None else 0,
        total=times.total if times is not None else 0.0,
        p50=percentile(buckets, 50, longest),
        p90=percentile(buckets, 90, longest),
        p99=percentile(buckets, 99, longest),
        max=longest,
        buckets=tuple(coarser(buckets, parts) if parts else buckets),
    )


def coarser(
    buckets: Iterable[tuple[float, float, int]], parts: int
) -> list[tuple[float, float, int]]:
    """Return *buckets* with only so many to a doubling."""
    found: dict[float, list[float]] = {}
    for lower, _, count in buckets:
        doubling = 2.0 ** _floor_log2(lower)
        place = int((lower / doubling - 1) * parts)
        start = doubling * (1 + place / parts)
        entry = found.setdefault(start, [doubling * (1 + (place + 1) / parts), 0])
        entry[1] += count
    return [(lower, upper, int(count)) for lower, (upper, count) in found.items()]


def _floor_log2(value: float) -> int:
    return int(value.hex().partition("p")[2])


def _word(status: int) -> str:
    try:
        return StatusCode(status).name.lower()
    except ValueError:
        return "other"


def _rows(hall: "Hall") -> list[tuple[Session | Visitor, str]]:
    """Return sessions, and the connections that have none here, each with what is spoken there.

    Who has not said a word yet is counted and not listed.
    """
    left = dict.fromkeys(hall.sessions)
    rows: list[tuple[Session | Visitor, str]] = []
    for visitor in hall.admission.visitors:
        if isinstance(visitor, Doorway):
            continue
        here = [session for session in visitor.sessions if session in left]
        for session in here:
            del left[session]
            rows.append((session, visitor.door))
        if not here:
            rows.append((visitor, visitor.door))
    # Their connections came in at the server that this one is mounted into.
    return [*rows, *((session, "mounted") for session in left)]


def _connection(number: int, visitor: Session | Visitor, door: str, now: float) -> ConnectionFacts:
    age, (bytes_in, bytes_out) = now - visitor.since, visitor.traffic
    if not isinstance(visitor, Session):
        return ConnectionFacts(
            number=number, peer=clipped(visitor.peer), door=door, agent="", state="", age=age,
            codecs=(), bytes_in=bytes_in, bytes_out=bytes_out, unsent=0, calls=0, running=0,
            tls="", identity="",
        )  # fmt: skip
    end = visitor.info("ssl_object")
    identity = read_identity(end)
    names = {number: codec.name for number, codec in visitor.side.by_number.items()}
    is_open = visitor.state is not State.HELLO
    return ConnectionFacts(
        number=number,
        peer=clipped(visitor.peer),
        door=door,
        agent=clipped(visitor.agent),
        state=visitor.state.value,
        age=age,
        codecs=tuple(names.get(n, str(n)) for n in sorted(visitor.serializers)) if is_open else (),
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        unsent=visitor.unsent(),
        calls=visitor.lane.calls_in,
        running=len(visitor.running),
        tls=end.version() or "" if end is not None else "",
        identity=clipped(_name_of(identity)) if identity is not None else "",
    )


def _name_of(identity: Identity) -> str:
    names: tuple[str, ...] = (
        identity.common_name,
        *identity.dns_names,
        *identity.uris,
        *identity.emails,
    )
    return next(filter(None, names), str(identity.fingerprint))


def _limits(hall: "Hall") -> dict[str, Any]:
    """Return the limits and the counted options of a server, by name."""
    limits, options = hall.side.limits, hall.options
    told = {field.name: getattr(limits, field.name) for field in fields(limits)}
    for field in fields(options):
        value = getattr(options, field.name)
        if type(value) in (int, float):
            told[field.name] = value
    told["handler_timeout"] = options.handler_timeout
    told["max_connections"] = hall.admission.most
    told["timed_of_plain_calls"] = f"1 in {SAMPLED}"
    return dict(sorted(told.items()))
