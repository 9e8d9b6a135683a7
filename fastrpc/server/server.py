"""Serve plain objects: register, start, drain, stop.

Rules of the room:
  * constructors don't touch an event loop; the server binds to the loop of `start`;
  * connections above the cap are turned away at once, those that said nothing first;
  * after `aclose` nothing is left: no task, no socket, no file.
"""

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass, field, fields
from enum import Enum
from types import TracebackType
from typing import Any, Final, final

from fastrpc.codec import Codec, CodecRegistry, default_codecs
from fastrpc.errors import ConfigError, ConnectionLost
from fastrpc.frame import LoopShare
from fastrpc.protocol import Option
from fastrpc.server.routes import Routes
from fastrpc.session import Answerer, Session, Side, Ticker
from fastrpc.transport import Listener, connection_cap, listen
from fastrpc.version import __version__
from fastrpc.wire import Limits

AGENT: Final = f"fastrpc/{__version__}"
DESCRIBE: Final = "fastrpc.describe"
_PROPAGATION: Final = 0.05  # a GOAWAY's way to the peer, before calls are refused
_LIMIT_NAMES: Final = frozenset(field.name for field in fields(Limits))
_LOOPBACK: Final = ("tcp://127.", "tcp://[::1]", "tcp://[::ffff:127.", "unix", "mem")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a server behaves; all keyword arguments of `Server` but the limits.

    Attributes:
        handler_timeout: Seconds a handler may take, None for no limit.
        max_running: Most handlers in flight, all connections together.
        max_connections: Most connections; None for 80 % of the file
            descriptors, at most 10,000.
        max_per_host: Most connections from one remote host. Loopback, Unix
            sockets and memory pipes are not counted.
        max_pending: Most connections that have not said HELLO.
        threads: Most blocking handlers at once.
        backlog: Connections the kernel holds until they are accepted.
        pickle: Let clients that ask for it send pickled values. Whoever can
            connect can then run any code here.
        tracebacks: Send remote tracebacks to callers.
    """

    handler_timeout: float | None = None
    max_running: int = 4096
    max_connections: int | None = None
    max_per_host: int = 256
    max_pending: int = 256
    threads: int = 32
    backlog: int = 1024
    pickle: bool = False
    tracebacks: bool = False

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        counted = ("max_running", "max_per_host", "max_pending", "threads", "backlog")
        for name in counted:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} must be a whole number above 0, got {value!r}")
        if self.max_connections is not None and self.max_connections < 1:
            raise ConfigError(f"max_connections must be above 0, got {self.max_connections!r}")
        if self.handler_timeout is not None and not 0 < self.handler_timeout < 2**31:
            raise ConfigError(f"handler_timeout must be above 0, got {self.handler_timeout!r}")


class ServerState(Enum):
    """Where a server stands."""

    IDLE = "idle"
    SERVING = "serving"
    DRAINING = "draining"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStats:
    """A snapshot of what a server did and does.

    Attributes:
        state: Where it stands.
        connections: Open now.
        accepted: Since the start.
        turned_away: Connections refused by a limit.
        calls: Calls taken, by connections that are open.
        running: Handlers in flight.
        refused: Calls answered without running a handler.
        methods: Calls and errors per method, of those that were called.
    """

    state: ServerState
    connections: int
    accepted: int
    turned_away: int
    calls: int
    running: int
    refused: int
    methods: dict[str, tuple[int, int]] = field(default_factory=dict)


@final
class Server:
    """Serve the methods of plain objects at one or more targets.

    Args:
        codecs: Codecs of your own beside raw, msgpack and JSON.
        log: Logger to use; "fastrpc.server" by default.
        options: Fields of `ServerOptions` and of `wire.Limits`, by name.

    Raises:
        ConfigError: An option is unknown or wrong; the message names it.
    """

    def __init__(
        self,
        *,
        codecs: list[Codec] | None = None,
        log: logging.Logger | None = None,
        **options: Any,
    ) -> None:
        limits, rest = split_limits(options)
        try:
            self.options = ServerOptions(**rest)
        except TypeError:
            known = {field.name for field in fields(ServerOptions)}
            unknown = ", ".join(sorted(set(rest) - known))
            raise ConfigError(f"unknown server option: {unknown}") from None
        self.limits = limits
        registry = default_codecs(limits)
        for codec in codecs or ():
            registry.register(codec)
        self._codecs: CodecRegistry = registry.with_pickle() if self.options.pickle else registry
        self._routes = Routes(self._codecs, limits)
        self._routes.add(self._describe, DESCRIBE)
        self._log = log or logging.getLogger("fastrpc.server")
        self._state = ServerState.IDLE
        self._side: Side | None = None
        self._answers: Answerer | None = None
        self._listeners: list[Listener] = []
        self._sessions: dict[Session, str] = {}
        self._pending: dict[Session, None] = {}
        self._hosts: dict[str, int] = {}
        self._cap = self.options.max_connections or connection_cap()
        self._accepted = self._turned_away = 0
        self._stopped: asyncio.Event | None = None

    def __repr__(self) -> str:
        """Tell state and targets."""
        return f"<Server {self._state.value} {' '.join(self.targets)}>"

    def register(self, obj: Any, name: str | None = None) -> None:
        """Serve the public methods of *obj*, or *obj* itself if it is a function.

        Args:
            obj: An instance, a class that needs no arguments, a function, or a
                module with functions.
            name: Service name (a function: method name) instead of its own.

        Raises:
            ConfigError: It can't be served; the message says why.
        """
        self._routes.add(obj, name)

    @property
    def targets(self) -> list[str]:
        """The real addresses, as text that a client can use."""
        return [target for listener in self._listeners for target in listener.targets]

    def stats(self) -> ServerStats:
        """Return what the server did so far."""
        methods = {
            key.decode(): (method.calls, method.errors)
            for key, method in self._routes.table.items()
            if method.calls
        }
        return ServerStats(
            state=self._state,
            connections=len(self._sessions),
            accepted=self._accepted,
            turned_away=self._turned_away,
            calls=sum(session.lane.calls_in for session in self._sessions),
            running=self._answers.running if self._answers else 0,
            refused=self._answers.refused if self._answers else 0,
            methods=methods,
        )

    async def start(self, *targets: str) -> None:
        """Listen at *targets*; may be called again for more.

        Raises:
            TransportError: An address can't be had.
            ConfigError: A target is wrong, or the server is closed.
        """
        if self._state in (ServerState.DRAINING, ServerState.CLOSED):
            raise ConfigError("the server is closed; make a new one")
        side = self._bind()
        fresh: list[Listener] = []
        try:
            for target in targets:
                fresh.append(
                    await listen(
                        target, lambda: Session(side, client=False), backlog=self.options.backlog
                    )
                )
        except BaseException:
            for listener in fresh:
                listener.close()
            raise
        self._listeners += fresh
        self._state = ServerState.SERVING

    async def serve_forever(self) -> None:
        """Wait until the server is closed."""
        if self._stopped is None:
            raise ConfigError("start the server first")
        await self._stopped.wait()

    async def aclose(self, grace: float = 30.0) -> None:
        """Drain, then stop: no new calls, those in flight get *grace* seconds.

        Clients are told to go elsewhere and calls still on their way are taken;
        what has not ended after *grace* is cancelled and answered so. Twice is fine.
        """
        if self._state is ServerState.CLOSED:
            return
        again = self._state is ServerState.DRAINING
        self._state = ServerState.DRAINING
        for listener in self._listeners:
            listener.close()
        if again:
            await self.serve_forever()
            return
        try:
            await self._drain(grace)
        finally:
            self._end()
        for listener in self._listeners:
            await listener.wait_closed()

    async def __aenter__(self) -> "Server":
        """Return the server itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close; at once if an exception is on its way."""
        await self.aclose(0.0 if exc is not None else 30.0)

    # Connections

    def _bind(self) -> Side:
        loop = asyncio.get_running_loop()
        if self._side is not None:
            if self._side.ticker.loop is not loop:
                raise ConfigError("the server was started on another event loop")
            return self._side
        share = LoopShare(
            loop.create_future, loop.call_soon, time.monotonic, asyncio.get_running_loop, loop
        )
        side = Side(
            share=share,
            ticker=Ticker(loop, share),
            limits=self.limits,
            option=option_for(self.limits, self._codecs, self.options.handler_timeout),
            codecs=self._codecs,
            log=self._log,
            router=self._routes.table,
            on_accept=self._accept,
            on_open=self._opened,
            on_lost=self._lost,
        )
        self._answers = Answerer(
            side,
            max_running=self.options.max_running,
            handler_timeout=self.options.handler_timeout or 0.0,
            threads=self.options.threads,
            tracebacks=self.options.tracebacks,
        )
        side.answers = self._answers
        self._side = side
        self._stopped = asyncio.Event()
        return side

    def _accept(self, session: Session) -> None:
        """Take a new connection in, or turn it away."""
        self._accepted += 1
        host = session.peer.rpartition(":")[0]
        host = "" if session.peer.startswith(_LOOPBACK) else host
        self._sessions[session] = host
        self._pending[session] = None
        if host:
            self._hosts[host] = self._hosts.get(host, 0) + 1
        if self._state is not ServerState.SERVING and self._listeners:
            self._turn_away(session, "the server is shutting down")
        elif host and self._hosts[host] > self.options.max_per_host:
            self._turn_away(session, f"more than {self.options.max_per_host} connections (max_per_host)")
        elif len(self._sessions) > self._cap:
            silent = next(iter(self._pending))
            self._turn_away(silent, f"more than {self._cap} connections (max_connections)")
        elif len(self._pending) > self.options.max_pending:
            silent = next(iter(self._pending))
            self._turn_away(silent, f"more than {self.options.max_pending} silent ones (max_pending)")

    def _turn_away(self, session: Session, why: str) -> None:
        self._turned_away += 1
        assert self._side is not None
        self._side.complain(logging.WARNING, session.peer, f"turned away: {why}")
        session.abort(ConnectionLost(f"{session.peer}: turned away: {why}", "no"))

    def _opened(self, session: Session) -> None:
        self._pending.pop(session, None)
        if self._state is not ServerState.SERVING:
            session.announce_drain()

    def _lost(self, session: Session, cause: Exception) -> None:
        self._pending.pop(session, None)
        host = self._sessions.pop(session, "")
        if host:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]

    async def _drain(self, grace: float) -> None:
        """Tell every client, take what is on its way, wait for what runs."""
        sessions = list(self._sessions)
        if not sessions:
            return
        for session in sessions:
            session.announce_drain()
        await asyncio.sleep(min(_PROPAGATION, grace))
        idle = [session.drain() for session in sessions if session in self._sessions]
        if idle and grace > 0:
            await asyncio.wait(idle, timeout=max(grace - _PROPAGATION, 0.0))
        for session in list(self._sessions):
            session.cancel_running("the server is shutting down")
        # Handlers that were cancelled end in the next turns and leave their answers.
        for _ in range(3):
            await asyncio.sleep(0)
        for session in list(self._sessions):
            session.close()
        await self._gone(1.0)

    async def _gone(self, patience: float) -> None:
        """Wait until the peers have read what was written to them."""
        assert self._side is not None
        end = self._side.ticker.loop.time() + patience
        while self._sessions and self._side.ticker.loop.time() < end:
            await asyncio.sleep(0.005)

    def _end(self) -> None:
        for session in list(self._sessions):
            session.abort(ConnectionLost(f"{session.peer}: the server stopped", "maybe"))
        if self._side is not None:
            self._side.ticker.close()
        if self._answers is not None:
            self._answers.close()
        self._state = ServerState.CLOSED
        if self._stopped is not None:
            self._stopped.set()

    async def _describe(self) -> dict[str, Any]:
        """Tell what this server serves: services, methods, signatures, limits."""
        limits = {name: getattr(self.limits, name) for name in sorted(_LIMIT_NAMES)}
        services = [s for s in self._routes.describe() if s["name"] != DESCRIBE.partition(".")[0]]
        return {"agent": AGENT, "services": services, "limits": limits}


def split_limits(options: dict[str, Any]) -> tuple[Limits, dict[str, Any]]:
    """Return the limits among *options*, and the rest."""
    mine = {name: options[name] for name in options if name in _LIMIT_NAMES}
    rest = {name: value for name, value in options.items() if name not in _LIMIT_NAMES}
    return Limits(**mine), rest


def option_for(limits: Limits, codecs: CodecRegistry, handler_timeout: float | None) -> Option:
    """Return what HELLO tells the peer."""
    return Option(
        codecs=codecs.names,
        max_body=limits.max_body,
        max_calls=limits.max_calls,
        methods=limits.max_methods,
        window=limits.window,
        ping_ms=int(limits.ping_interval * 1000),
        handle_ms=int((handler_timeout or 0.0) * 1000),
        agent=AGENT,
        instance=uuid.uuid4().hex,
    )


