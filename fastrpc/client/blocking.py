"""Call a server without an event loop and without a thread.

Rules of the room:
  * one connection, made at first use and again when it is gone;
  * threads may share a client, a child of a fork dials anew;
  * a call waits for the dialling of another thread no longer than its deadline.
"""

import copy
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, TypeVar, final

from fastrpc.call.deadline import LEAST, within
from fastrpc.client.blocking_face import BlockingClient
from fastrpc.client.blocking_view import BlockingView, CallArguments
from fastrpc.client.options import ClientOptions
from fastrpc.client.pace import PingPace
from fastrpc.client.stats import ClientStats
from fastrpc.errors import (
    ConfigError,
    ConnectionDraining,
    ConnectionLost,
    DeadlineExceeded,
    FastRPCError,
    TransportError,
)
from fastrpc.frame import Turns, Waiter
from fastrpc.policy import Backoff
from fastrpc.session import (
    Batch,
    BlockingCore,
    BlockingSession,
    Side,
    blocking_share,
    check_timeout,
    fork,
    outcome,
)
from fastrpc.transport import check_blocking, dial_blocking, parse_target

T = TypeVar("T")

#: As for the asyncio client, see `link`.
RETRY_CAP: Final = 4.0


@final
class DirectBlockingClient(BlockingView, BlockingClient):
    """The blocking client of one server. Made by `connect_sync`.

    Args:
        target: Where it is.
        options: How to behave.
    """

    def __init__(self, target: str, options: ClientOptions) -> None:
        self._target = parse_target(target)
        check_blocking(self._target)
        if options.connections != 1:
            raise ConfigError("a blocking client has one connection; make several clients")
        if options.interceptors:  # silence would leave out a token, say
            raise ConfigError("interceptors are coroutines: a blocking client can't run them")
        self._options = options
        self._tls = options.encryption(self._target)
        self._codecs = options.registry()
        self._compressors = options.compressor_registry()
        self._codec = self._codecs.get(options.codec)
        self._is_closed = False
        self._attempts = 0
        self._start_over()
        super().__init__(self, check_timeout(options.timeout), options.packed_metadata())
        fork.register(self)

    def _start_over(self) -> None:
        """Begin without a connection, and without the locks of another process."""
        self._side = Side(
            share=blocking_share(),
            limits=self._options.limits,
            option=self._options.option(self._codecs),
            compressors=self._compressors,
            compress_from=self._options.compress_from,
            codecs=self._codecs,
            errors=self._options.error_registry(self._codecs),
            log=logging.getLogger("fastrpc.client"),
        )
        self._session: BlockingSession | None = None
        self._draining: list[BlockingSession] = []  # those that still have calls open
        self._lock = threading.Lock()
        self._dialling = Turns()
        self._closing = threading.Event()
        self._pace = PingPace()
        self._backoff = Backoff(cap=RETRY_CAP)
        self._retry_at = self._failed_at = 0.0
        self._failure: FastRPCError | None = None

    def __repr__(self) -> str:
        """Tell target and state."""
        state = "closed" if self._is_closed else "idle" if self._session is None else "open"
        return f"<BlockingClient {self._target} {state}>"

    @property
    def target(self) -> str:
        """Where the server is."""
        return str(self._target)

    def _connect_now(self) -> None:
        """Make a connection, unless there is one."""
        self._usable("connect", time.monotonic(), 0.0)

    def close(self) -> None:
        """Close the connection."""
        self._is_closed = True
        self._closing.set()
        for session in [self._session, *self._draining]:
            if session is not None:
                session.close()

    def stats(self) -> ClientStats:
        """Return what the client knows and does now."""
        connected = self._session is not None and self._session.is_usable
        return ClientStats(target=self.target, connected=int(connected), dials=self._attempts)

    @property
    def is_idle(self) -> bool:
        """Whether no call and no stream is open."""
        known = [self._session, *self._draining]
        return not any(each is not None and not each.is_over and each.lane.table for each in known)

    def ping(self) -> float:
        """Return the seconds that a ping of the connection takes to come back."""
        timeout = self._timeout or self._options.connect_timeout
        deadline = (started := time.monotonic()) + timeout
        session = self._usable("ping", started, deadline)
        pause = self._pace.wait(time.monotonic(), session.ping_interval)
        if pause:
            self._closing.wait(min(pause, timeout))
        return session.ping(max(deadline - time.monotonic(), 0.001))

    def after_fork(self) -> None:
        """Let go of the parent's connections; the child dials its own."""
        for session in [self._session, *self._draining]:
            if session is not None:
                session.drop()
        self._start_over()

    # Calls

    def finish(
        self, session: BlockingSession | None, waiter: Waiter | None, call: CallArguments
    ) -> Any:
        """Do what is left of a call that was not plain, or was not sent at all."""
        name, timeout = call[0], call[3]
        if session is not None and waiter is not None:
            try:
                return session.finish(waiter, *call)
            except ConnectionDraining:
                pass  # it was surely not run: another connection may do it
        started = time.monotonic()
        if waiter is not None and timeout:
            started = waiter.deadline - timeout  # one deadline for both attempts

        def act(session: BlockingSession, left: float) -> Any:
            name, args, kwargs, _, metadata, decode = call
            return session.finish(None, name, args, kwargs, left, metadata, decode)

        return self._on_session(name, started, timeout, act)

    def act(self, name: str, timeout: float, act: Callable[[BlockingSession, float], T]) -> T:
        """Do something other than a plain call, within *timeout* and what is inherited."""
        now = time.monotonic()
        return self._on_session(name, now, within(timeout, now), act)

    def _on_session(
        self,
        name: str,
        started: float,
        timeout: float,
        act: Callable[[BlockingSession, float], T],
    ) -> T:
        """Let *act* use a connection for what is left of *timeout*, or two if one drains."""
        deadline = started + timeout if timeout else 0.0
        tries = 0
        while True:
            tries += 1
            session = self._usable(name, started, deadline)
            connecting = time.monotonic() - started
            left = max(timeout - connecting, LEAST) if timeout else 0.0
            try:
                return act(session, left)
            except ConnectionDraining:
                if tries == 2:
                    raise
            except DeadlineExceeded as exc:
                now = time.monotonic()
                if not deadline or now < deadline:  # the server's own limit
                    raise
                raise outcome.late(
                    name, started, deadline, now, self.target, handler=exc.stages.handler,
                    connecting=connecting, queued=exc.stages.queued, sent=exc.ran != "no",
                ) from None  # fmt: skip

    def open_stream(self, timeout: float, core: BlockingCore) -> None:
        """Open a stream that may take *timeout*."""
        self.act(core.method, timeout, lambda session, left: session.open(core, left))

    def make_batch(
        self, calls: list[tuple[str, tuple[Any, ...]]], timeout: float, metadata: bytes
    ) -> list[Any]:
        """Make many calls, as `BlockingView.gather` has it."""
        results: list[Any] = [None] * len(calls)
        places = list(range(len(calls)))

        def act(session: BlockingSession, left: float) -> None:
            batch = Batch(session, [calls[place] for place in places], left, metadata)
            batch.run()
            for place, result in zip(places, batch.results, strict=True):
                results[place] = result

        started = time.monotonic()
        timeout = within(timeout, started)
        for _ in range(2):
            try:
                self._on_session(calls[places[0]][0], started, timeout, act)
            except FastRPCError as exc:  # there is no connection, nor will there be
                for place in places:
                    results[place] = copy.copy(exc)
                break
            # Those that a connection which ended has surely not run go to the next.
            places = [place for place in places if _is_unsent(results[place])]
            if not places:
                break
        return results

    def _usable(self, name: str, started: float, deadline: float) -> BlockingSession:
        """Return a connection that is open; *deadline* is 0 for none."""
        session = self._session
        if session is not None and session.is_usable:
            session.look()  # it may have ended while nobody used it
            if session.is_usable:
                return session
        me, failure = Waiter(), None
        try:
            while not deadline or time.monotonic() < deadline:
                with self._lock:
                    dials = self._dialling.lead(me)
                    if not dials:
                        self._dialling.follow(me)
                if dials:
                    session = self._connect(started, deadline)
                    if not deadline or time.monotonic() < deadline:
                        return session
                else:
                    me.sleep(deadline - time.monotonic() if deadline else None)
        except FastRPCError as exc:
            if not deadline or time.monotonic() < deadline:
                raise
            failure = exc
        finally:
            me.has_left = True
            with self._lock:
                self._dialling.leave(me)
        now = time.monotonic()
        raise outcome.late(
            name, started, deadline, now, self.target, connecting=now - started, sent=False
        ) from failure

    def _connect(self, started: float, deadline: float) -> BlockingSession:
        """Return the connection, a new one if need be. Only for who leads."""
        self._check_closed()
        if self._session is not None and self._session.is_usable:
            return self._session
        if self._failure is not None and self._failed_at > started:
            raise copy.copy(self._failure)  # another thread's attempt, while we waited
        self._wait_for_turn(deadline)
        known = (*self._draining, self._session)
        self._draining = [old for old in known if old is not None and not old.is_over]
        self._session = None
        patience = self._options.connect_timeout
        if deadline:
            patience = min(patience, max(deadline - time.monotonic(), 0.001))
        try:
            self._session = session = self._dial(patience)
        except FastRPCError as exc:
            now = time.monotonic()
            if not deadline or now < deadline:  # else it was too short to mean anything
                self._failure, self._failed_at = exc, now
                self._retry_at = now + self._backoff.next()
            raise
        self._failure = None
        self._backoff.reset()
        if self._is_closed:  # meanwhile, by another thread
            session.close()
            self._check_closed()
        return session

    def _check_closed(self) -> None:
        if self._is_closed:
            raise ConnectionLost(f"this client of {self.target} is closed", "no")

    def _wait_for_turn(self, deadline: float) -> None:
        """Wait for the next attempt; raise why the last failed if that is too far off."""
        pause = self._retry_at - time.monotonic()
        if self._failure is None or pause <= 0:
            return
        if pause > self._options.connect_timeout:
            raise copy.copy(self._failure)
        if deadline:
            pause = min(pause, max(deadline - time.monotonic(), 0.0))
        self._closing.wait(pause)
        self._check_closed()

    def _dial(self, timeout: float) -> BlockingSession:
        self._attempts += 1
        started = time.monotonic()
        sock = dial_blocking(self._target, timeout, tls=self._tls, proxy=self._options.proxy)
        side = replace(self._side, share=blocking_share())
        session = BlockingSession(sock, side, self.target, self._codec.serializer)
        try:
            session.greet(max(timeout - (time.monotonic() - started), 0.001))
        except BaseException:
            session.close()
            raise
        return session


def _is_unsent(result: Any) -> bool:
    return isinstance(result, TransportError) and result.ran == "no"
