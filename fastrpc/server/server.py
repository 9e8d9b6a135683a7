"""Serve plain objects: register, start, drain, stop.

Rules of the room:
  * constructors don't touch an event loop; the server binds to the loop of `start`;
  * connections above a cap are turned away at once, those that said nothing first;
  * after `aclose` nothing is left, no task, no socket, no file: but for handlers
    that will not end, and those are told of in the log.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Unpack, final

from fastrpc.call import ErrorClasses, ErrorRegistry, Interceptor, Peer, check_interceptors
from fastrpc.codec import Codec, CodecRegistry, default_codecs
from fastrpc.compress import choose_compressors
from fastrpc.errors import ConfigError, ConnectionLost
from fastrpc.frame import release_bodies
from fastrpc.server.age import Ages
from fastrpc.server.announcing import AnnounceKeywords, Announcing, RegistryLike
from fastrpc.server.entrances import Entrances
from fastrpc.server.hall import Hall
from fastrpc.server.health import HEALTH, health_of
from fastrpc.server.options import AGENT, LIMIT_NAMES, ServerKeywords, offer, read_options
from fastrpc.server.overload import Overload, Priority
from fastrpc.server.stats import ServerState, ServerStats
from fastrpc.session import (
    Answerer,
    Handling,
    Routes,
    Side,
    Threads,
    Ticker,
    fork,
    share_of,
)
from fastrpc.transport import Plain, TlsOptions

DESCRIBE: Final = "fastrpc.describe"
_PROPAGATION: Final = 0.05  # a GOAWAY's way to the peer, before calls are refused
_ENDING: Final = 1.0  # after the grace: for handlers to leave, and for peers to hang up
_LEAVING: Final = 0.5  # the handlers' part of it
_VANISHING: Final = 0.1  # for what was aborted
_STOPPING: Final = "the server is shutting down"


@final
class Server:
    """Serve the methods of plain objects at one or more targets.

    Args:
        interceptors: What stands before every handler, outermost first.
        errors: Exception classes that arrive as themselves, or a map of names to
            classes; see `register_error`.
        codecs: Codecs of your own beside raw, msgpack and JSON, and names of extras.
        log: Logger to use; "fastrpc.server" by default.
        options: Fields of `ServerOptions` and of `wire.Limits`, by name.

    Raises:
        ConfigError: An option is unknown or wrong; the message names it.
    """

    def __init__(
        self,
        *,
        interceptors: Sequence[Interceptor] = (),
        errors: ErrorClasses = (),
        codecs: Sequence[Codec | str] = (),
        log: logging.Logger | None = None,
        **options: Unpack[ServerKeywords],
    ) -> None:
        """Take the options; nothing is opened yet."""
        self.limits, self.options = read_options(options)
        registry = default_codecs(self.limits)
        for codec in codecs:
            registry.register(codec)
        self._codecs: CodecRegistry = registry.with_pickle() if self.options.pickle else registry
        self._errors = ErrorRegistry(errors, self._codecs.get("msgpack").convert)
        if self.limits.max_name < len(DESCRIBE):
            need = f"at least {len(DESCRIBE)}, for the built-in method {DESCRIBE}"
            raise ConfigError(f"max_name of a server must be {need}, got {self.limits.max_name}")
        chosen = self.options
        self._compressors = choose_compressors(chosen.compression, chosen.compressors)
        self._interceptors = check_interceptors(interceptors)
        self._priority = Priority(chosen.priority)
        self._overload = (
            Overload(self._priority, chosen.max_running) if chosen.adaptive_limit else None
        )
        self._routes = Routes(
            self._codecs,
            self.limits,
            wrapped=bool(self._interceptors),
            around=self._overload.around if self._overload is not None else None,
        )
        self._routes.add(self._describe, DESCRIBE)
        self._routes.add(self._health, HEALTH)
        self._log = log or logging.getLogger("fastrpc.server")
        self._state = ServerState.IDLE
        self._side: Side | None = None
        self._answers: Answerer | None = None
        self._hall = Hall(self, self.options)
        self._entrances = Entrances(self._hall, self._log)
        if chosen.tls is not None:
            self._entrances.certificates(chosen.tls)  # which says now if its files can't be used
        self._mounted: list[Server] = []
        self._announcing = Announcing(self, self._log)
        self._stopped: asyncio.Event | None = None
        fork.register(self)

    def __repr__(self) -> str:
        """Tell state and targets."""
        return f"<{' '.join(['Server', self._state.value, *self.targets])}>"

    def register(
        self,
        obj: Any,
        name: str | None = None,
        *,
        version: str = "",
        group: str = "",
        default: bool = False,
    ) -> None:
        """Serve the public methods of *obj*, or *obj* itself if it is a function.

        Args:
            obj: An instance, a class that needs no arguments, a function, or a
                module with functions.
            name: Service name (a function: method name) instead of its own.
            version: Which of several that are served under one name, such as "2".
            group: Which of several that run the same code, such as "eu".
            default: Answer also those who name neither; without, only those who name
                the same version and group.

        Raises:
            ConfigError: It can't be served; the message says why.
        """
        self._routes.add(obj, name, version=version, group=group, default=default)

    def register_error(self, kind: type[Exception], name: str | None = None) -> None:
        """Let exceptions of class *kind* arrive as themselves where they are registered, too.

        They are answers then and no faults: their state is sent (see docs/guide/errors.md),
        and they are not logged. Classes that derive from *kind* have to be registered themselves.

        Args:
            kind: The class.
            name: On the wire, instead of the class's own.

        Raises:
            ConfigError: It can't be used, or class or name are taken.
        """
        self._errors.add(kind, name)

    def describe(self, *, schema: bool = False) -> dict[str, Any]:
        """Return what clients are told: services, methods, signatures, limits.

        Args:
            schema: Also JSON Schemas of all arguments and results.
        """
        limits = {name: getattr(self.limits, name) for name in sorted(LIMIT_NAMES)}
        return {
            "agent": AGENT,
            "limits": limits,
            **self._routes.describe(schema=schema, without=(DESCRIBE, HEALTH)),
        }

    @property
    def targets(self) -> list[str]:
        """The real addresses, as text that a client can use."""
        return self._entrances.targets

    @property
    def doors_by_target(self) -> dict[str, tuple[str, ...]]:
        """The real addresses, each with the doors that are open there."""
        return self._entrances.doors_by_target

    @property
    def hall(self) -> Hall:
        """Who is connected; for what watches a server, not for users."""
        return self._hall

    def health(self, methods: int = 0) -> dict[str, Any]:
        """Return how this server is, and so many methods, as fastrpc.health tells it."""
        of = self._side, self._answers, self._overload
        return health_of(self._state.value, self.options.max_running, *of, methods)

    @property
    def peers(self) -> list[Peer]:
        """Those who are connected, to be called in turn; oldest first."""
        return [each.as_peer for each in self._hall.sessions if each.lane.opened]

    def stats(self) -> ServerStats:
        """Return what the server did so far."""
        methods = {
            key.decode(): (method.calls, method.errors)
            for key, method in self._routes.table.items()
            if method.calls
        }
        hall = self._hall
        return ServerStats(
            state=self._state,
            connections=len(hall.admission),
            sessions=len(hall.sessions),
            accepted=hall.admission.accepted,
            turned_away=hall.admission.turned_away,
            calls=hall.calls + sum(session.lane.calls_in for session in hall.sessions),
            running=self._answers.running if self._answers else 0,
            refused=self._answers.refused if self._answers else 0,
            methods=methods,
        )

    def mount(self, path: str, server: "Server") -> None:
        """Let *server* have all who come by HTTP or WebSocket to *path* and below it.

        It needs no listener of its own, starts with this one and is closed with it.

        Args:
            path: Such as "/admin"; then "http://host:port/admin" is a target of it.
            server: Which has limits, interceptors and services of its own.

        Raises:
            ConfigError: The path can't be used, or is taken.
        """
        self._check_open()
        server._check_open()
        self._hall.mount(path, server._hall)
        self._mounted.append(server)
        if self._side is not None:
            server._join()

    def reload_certificates(self) -> None:
        """Load the files of `tls` anew, now; connections that are open are not disturbed.

        Without it they are looked at once a second, when somebody connects.

        Raises:
            ConfigError: They can't be used; those in force stay.
        """
        self._entrances.reload()

    async def start(
        self,
        *targets: str,
        doors: Iterable[str] | None = None,
        tls: TlsOptions | None = None,
        plain: Plain | None = None,
    ) -> None:
        """Listen at *targets*, all or none; may be called again for more.

        Args:
            targets: Such as "tcp://0.0.0.0:7000" or "tls://:7443".
            doors: What is spoken there, names out of `DOORS`.
            tls: Certificate of these listeners.
            plain: With *tls*: "allow" lets unencrypted connections in, too.
                What of the three is left out is as the server's own options say.

        Raises:
            TransportError: An address can't be had.
            ConfigError: A target, a door or a certificate can't be used, *plain* has no
                certificate beside it, or there is no target, or the server is closed.
        """
        if not targets:
            raise ConfigError("there is no target to listen at, such as tcp://127.0.0.1:7000")
        self._check_open()
        self._bind()
        own = self.options
        wanted = own.doors if doors is None else doors
        await self._entrances.open(targets, wanted, tls or own.tls, plain or own.plain)
        self._state = ServerState.SERVING

    async def announce(
        self, registry: str | RegistryLike, **options: Unpack[AnnounceKeywords]
    ) -> None:
        """Keep the services in *registry*, as long as the server takes calls.

        Returns when the registry knows them, or could not be told at once: then it will be
        tried again, and again. `aclose` withdraws them first of all.

        Args:
            registry: Such as "etcd://10.0.0.5:2379", or a `fastrpc.cluster.Registry`.
            options: Fields of `AnnounceOptions`, by name.

        Raises:
            ConfigError: The server does not serve, there is no such registry, nothing can be
                published there, or an option is wrong.
        """
        self._check_open()
        await self._announcing.begin(registry, self._routes.services, options)

    async def serve_forever(self) -> None:
        """Wait until the server is closed."""
        if self._stopped is None:
            raise ConfigError("start the server first")
        await self._stopped.wait()

    async def aclose(self, grace: float = 30.0) -> None:
        """Drain, then stop: no new calls, those in flight get *grace* seconds.

        Registries are told first, if the server is announced, and calls are taken for a while
        after that, but for a *grace* of 0. Then clients are told to go elsewhere and calls still
        on their way are taken; what has not ended after *grace* is cancelled and answered so.
        Servers that are mounted get the same. Cancel it, and all of them close at once.
        Twice is fine.
        """
        if self._state is ServerState.CLOSED:
            return
        if self._state is ServerState.DRAINING:
            await self.serve_forever()
            return
        self._state = ServerState.DRAINING
        await self._announcing.leave_before(self._close(grace), hurry=grace <= 0)

    async def _close(self, grace: float) -> None:
        """Drain and end, as `aclose` says."""
        self._hall.is_closing = True
        mounted = [asyncio.ensure_future(server.aclose(grace)) for server in self._mounted]
        gone: list[asyncio.Future[Any]] = []
        try:
            self._entrances.close()
            try:
                if self._side is not None:
                    await self._drain(self._side.ticker.loop.time() + grace)
            finally:
                gone = self._end()
            if gone:
                await asyncio.wait(gone, timeout=_VANISHING)
            if mounted:
                await asyncio.wait(mounted)
            await self._hall.emptied(_VANISHING)
            await self._entrances.wait_closed()
        except BaseException:
            await self._hurry(mounted, gone)
            raise
        for closing in mounted:
            closing.result()

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

    def after_fork(self) -> None:
        """Be closed in a child, once started: loop, sockets and clients are the parent's."""
        if self._side is not None:
            self._state = ServerState.CLOSED
            self._entrances.forget()
            self._announcing.forget()
            release_bodies(everything=True)

    def _check_open(self) -> None:
        if self._state in (ServerState.DRAINING, ServerState.CLOSED):
            raise ConfigError("the server is closed; make a new one")

    def _join(self) -> None:
        """Serve at the listeners of the server that this one is mounted into."""
        self._bind()
        self._state = ServerState.SERVING

    def _bind(self) -> Side:
        loop = asyncio.get_running_loop()
        if self._side is not None:
            if self._side.ticker.loop is not loop:
                raise ConfigError("the server was started on another event loop")
            return self._side
        share = share_of(loop)
        hall: Hall | Ages = self._hall
        if self.options.max_connection_age or self.options.max_connection_idle:
            hall = Ages(self._hall, self.options, loop)
        side = Side(
            share=share,
            ticker=Ticker(loop, share),
            limits=self.limits,
            option=offer(
                self.limits, self._codecs, self._compressors, self.options.handler_timeout
            ),
            compressors=self._compressors,
            compress_from=self.options.compress_from,
            codecs=self._codecs,
            errors=self._errors,
            log=self._log,
            router=self._routes.table,
            max_unsent_total=self.options.max_unsent_total,
            on_accept=self._hall.accepted,
            on_open=hall.opened,
            on_lost=hall.lost,
        )
        self._answers = Answerer(
            side,
            max_running=self.options.max_running,
            handler_timeout=self.options.handler_timeout or 0.0,
            handling=Handling(Threads(loop, self.options.threads), self._interceptors),
            tracebacks=self.options.tracebacks,
            is_first=self._priority,
            shedding=self._overload,
        )
        if self._overload is not None:
            self._overload.bind(share, self._codecs.get("msgpack").encode)
            side.around = self._overload.within
        side.answers = self._answers
        self._side = self._hall.side = side
        self._stopped = asyncio.Event()
        for server in self._mounted:
            server._join()
        return side

    async def _drain(self, end: float) -> None:
        """Tell every client, take what is on its way, wait for what runs."""
        assert self._side is not None
        clock = self._side.ticker.loop.time
        for session in self._hall.sessions:
            session.leave()
        for visitor in self._hall.admission.visitors:
            visitor.leave()
        if len(self._hall.admission):
            await asyncio.sleep(min(_PROPAGATION, max(end - clock(), 0.0)))
        idle = [session.drain() for session in self._hall.sessions]
        idle += self._unwatched()  # of connections that are gone, too
        if idle and clock() < end:
            await asyncio.wait(idle, timeout=end - clock())
        for task in self._unwatched():
            task.cancel()
        for session in self._hall.sessions:
            session.cancel_running(_STOPPING)
        last = max(end, clock() + _ENDING)
        # Cancelled handlers leave in their own way, which may take a moment.
        if running := self._tasks():
            await asyncio.wait(running, timeout=_LEAVING)
        for session in self._hall.sessions:
            session.close()
        # Until the peers have read what was written to them.
        await self._hall.emptied(last - clock())

    def _tasks(self) -> "set[asyncio.Task[None]]":
        """Return the handlers in flight, but for one that closes the server itself."""
        tasks = self._answers.tasks if self._answers is not None else set()
        return tasks - {asyncio.current_task()}

    def _unwatched(self) -> "set[asyncio.Task[None]]":
        """Return the handlers that a shield keeps running, but for one that closes the server."""
        tasks = self._answers.unwatched if self._answers is not None else set()
        return tasks - {asyncio.current_task()}

    def _end(self) -> "list[asyncio.Future[Any]]":
        """Let go of everything; return what is done when all of it is gone."""
        if left := len(self._tasks()):
            self._log.warning("handlers that do not end although they were cancelled: %d", left)
        gone: list[asyncio.Future[Any]] = []
        for visitor in [*self._hall.sessions, *self._hall.admission.visitors]:
            visitor.abort(ConnectionLost(f"{visitor.peer}: the server stopped", "maybe"))
        if self._answers is not None:
            gone += self._answers.close() - {asyncio.current_task()}
        if self._side is not None:
            self._side.ticker.close()
        self._state = ServerState.CLOSED
        if self._stopped is not None:
            self._stopped.set()
        return gone

    async def _hurry(
        self, mounted: "Sequence[asyncio.Future[None]]", gone: "Sequence[asyncio.Future[Any]]"
    ) -> None:
        """See that nothing is left soon, although somebody did not wait for the end."""
        for closing in mounted:
            closing.cancel()
        if gone:
            await asyncio.wait(gone, timeout=_VANISHING)
        if mounted:
            await asyncio.wait(mounted)
        for closing in mounted:
            if not closing.cancelled() and (error := closing.exception()) is not None:
                self._log.error("a mounted server failed to close", exc_info=error)

    async def _describe(self, schema: bool = False) -> dict[str, Any]:
        """Tell what this server serves: services, methods, signatures, limits.

        With *schema* also the JSON Schemas of all arguments and results.
        """
        return self.describe(schema=schema)

    async def _health(self, methods: int = 0) -> dict[str, Any]:
        """Tell how this server is: state, lag of its event loop, calls in flight, limit.

        With *methods* also counts and times of so many methods, those that were called most.
        """
        return self.health(methods)
