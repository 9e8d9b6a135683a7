"""Hold what is seen of a server: what it serves, who is there, what runs, how it has been.

Rules of the room:
  * plain frozen values, fit for JSON;
  * seconds are seconds and bytes are bytes, whatever a page makes of them.
"""

from dataclasses import dataclass
from typing import Any

from fastrpc.observe.lag import LagFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """The server as a whole.

    Attributes:
        state: Where it stands.
        agent: Its version, as peers are told.
        pid: Its process.
        uptime: Seconds since it was started.
        python: Version of Python.
        loop: The event loop it runs on.
        is_compiled: Whether the compiled twins are in use.
        places: Where it listens, and which doors are open there.
        calls: Calls taken.
        running: Handlers in flight.
        refused: Calls answered without running a handler.
        connections: Open now.
        accepted: Connections made since the start.
        turned_away: Those of them that a limit refused.
        bytes_in: Of frames, read since the start.
        bytes_out: Of frames, written.
        unsent: Bytes waiting for peers to read.
    """

    state: str
    agent: str
    pid: int
    uptime: float
    python: str
    loop: str
    is_compiled: bool
    places: dict[str, tuple[str, ...]]
    calls: int
    running: int
    refused: int
    connections: int
    accepted: int
    turned_away: int
    bytes_in: int
    bytes_out: int
    unsent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodFacts:
    """One method that was called.

    Attributes:
        name: What it is called by.
        calls: How many were taken.
        failures: How many did not end well, by the name of their status.
        running: Its handlers in flight.
        is_sampled: Whether one call in sixteen is timed, and not each.
        timed: How many calls were timed; all seconds here are of those.
        total: Their sum.
        p50: Half of them took no longer.
        p90: 90 % of them.
        p99: 99 % of them.
        max: The longest.
        buckets: Lower and upper bound and count, of those that are not empty.
    """

    name: str
    calls: int
    failures: dict[str, int]
    running: int
    is_sampled: bool
    timed: int
    total: float
    p50: float
    p90: float
    p99: float
    max: float
    buckets: tuple[tuple[float, float, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFacts:
    """One connection; of one that has several sessions, each is told by itself.

    Attributes:
        number: What it is called here.
        peer: Where it comes from.
        door: What is spoken on it.
        agent: What the peer calls itself.
        state: Where it stands.
        age: Seconds since it was made.
        codecs: What its payloads may be.
        bytes_in: Read from it; of a session, in frames.
        bytes_out: Written to it.
        unsent: Waiting for the peer to read.
        calls: Calls taken from it.
        running: Its calls in flight.
        tls: Version of TLS, "" if it is not encrypted.
        identity: Whom its certificate names, "" if none was checked.
        worker: Whose connection it is; numbers are each worker's own.
    """

    number: int
    peer: str
    door: str
    agent: str
    state: str
    age: float
    codecs: tuple[str, ...]
    bytes_in: int
    bytes_out: int
    unsent: int
    calls: int
    running: int
    tls: str
    identity: str
    worker: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """One call whose handler has not ended.

    Attributes:
        connection: Number of its connection, 0 if that is gone.
        number: Its own on that connection.
        id: What the logs of both sides call it.
        method: What is called.
        peer: Who calls.
        age: Seconds since it began.
        left: Seconds until its deadline, None if it has none.
        state: "runs"; "in a thread", which nothing can stop; or "given up" if nobody
            waits for it any more.
        stack: Where the handler is, outermost first.
        worker: Whose call it is; numbers are each worker's own.
    """

    connection: int
    number: int
    id: str
    method: str
    peer: str
    age: float
    left: float | None
    state: str
    stack: tuple[str, ...]
    worker: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFacts:
    """One process of several that serve together.

    Attributes:
        worker: Its number among those that there are.
        pid: Its process.
        state: "starting", "serving", "draining", or "silent" if it did not answer in time.
        is_asked: Whether it is the one that was asked, and has asked the others.
        uptime: Seconds since it began to serve.
        connections: Open now; of a silent one, when it accepted last.
        calls: Calls taken.
        running: Handlers in flight.
        restarts: How often a worker in its place had to be started again.
    """

    worker: int
    pid: int
    state: str
    is_asked: bool = False
    uptime: float = 0.0
    connections: int = 0
    calls: int = 0
    running: int = 0
    restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All of it, at one moment.

    Attributes:
        server: The server as a whole.
        methods: Those that were called.
        connections: Oldest first.
        calls: In flight, oldest first.
        lag: How late the event loop came.
        limits: What is in force, by name.
        cut: How many of "methods", "connections" and "calls" were left away.
        doors: Connections by what is spoken on them.
        workers: The processes, if there are several; all else is of them together then.
        workers_wanted: How many there are to be.
        restarts: How often one had to be started again.
    """

    server: ServerFacts
    methods: tuple[MethodFacts, ...]
    connections: tuple[ConnectionFacts, ...]
    calls: tuple[CallFacts, ...]
    lag: LagFacts
    limits: dict[str, Any]
    cut: dict[str, int]
    doors: dict[str, int]
    workers: tuple[WorkerFacts, ...] = ()
    workers_wanted: int = 0
    restarts: int = 0
