"""Call a cluster from a program without an event loop: a loop in a thread does the work.

Somebody has to watch the registry, so there is a loop; it runs in a thread of its own, which
begins at first use and ends with the client. Streams go another way: an instance is picked,
and they run over a socket to it, as those of one server do.

Rules of the room:
  * whoever waits in a thread can be interrupted by a signal: the call is then cancelled;
  * a child of a fork begins anew, with a thread of its own.
"""

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar, cast, final

from fastrpc.call import Mode, Pairs, Reply
from fastrpc.call.deadline import LEAST
from fastrpc.client.blocking import DirectBlockingClient
from fastrpc.client.blocking_face import BlockingCalls, BlockingClient
from fastrpc.client.blocking_view import call_stream
from fastrpc.client.broadcast import BroadcastMode, InstanceResult, InstanceResults
from fastrpc.client.options import ClientOptions, ConnectOptions
from fastrpc.client.stats import ClientStats
from fastrpc.cluster.client import ClusterClient, connect_cluster, split_options
from fastrpc.cluster.member import Member
from fastrpc.cluster.view import ClusterView
from fastrpc.errors import ConfigError, ConnectionLost
from fastrpc.session import KEEP, BlockingCore, BlockingStream, Keep, fork
from fastrpc.session.stream import Opening
from fastrpc.session.stub import Bound, make_stub
from fastrpc.transport import parse_target

__all__ = ["BlockingClusterClient", "LoopThread", "connect_cluster_sync"]

T = TypeVar("T")

#: How long `close` waits for the thread, in seconds.
PATIENCE: Final = 5.0

#: Most instances to which sockets for streams are kept.
STREAMS_MAX: Final = 64


@final
class LoopThread:
    """An event loop in a thread, for those who have none."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_closed = False
        self._lock = threading.RLock()  # again by a signal's handler, say
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._open: set[concurrent.futures.Future[Any]] = set()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run *work* on the loop and wait for its end; an exception here cancels it.

        Raises:
            ConnectionLost: The thread was ended, before or meanwhile.
        """
        try:
            with self._lock:  # once it is closed nothing comes to the loop any more
                if self._is_closed:
                    raise ConnectionLost(f"{self._name}: closed here", "no")
                future = asyncio.run_coroutine_threadsafe(work, self._running())
                self._open.add(future)
        except BaseException:
            work.close()
            raise
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ConnectionLost(f"{self._name}: closed here", "maybe") from None
        except BaseException:
            future.cancel()
            raise
        finally:
            self._open.discard(future)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name=self._name, daemon=True
            )
            self._thread.start()
        return self._loop

    def close(self) -> None:
        """Cancel what runs on the loop, and end the thread. Twice is fine."""
        with self._lock:
            self._is_closed = True
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        ending = asyncio.run_coroutine_threadsafe(_end_tasks(), loop)
        concurrent.futures.wait([ending], PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        for future in list(self._open):  # of what would not end: nobody waits for it for ever
            future.cancel()
        if not thread.is_alive():
            loop.close()

    def forget(self) -> None:
        """Let go of the thread, which is the parent's."""
        self._lock = threading.RLock()
        self._loop = self._thread = None
        self._open = set()


async def _end_tasks() -> None:
    """Cancel all other tasks of the loop, and wait for their ends, but not for ever."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=PATIENCE / 2)


class BlockingClusterView(BlockingCalls):
    """A cluster to call from a thread, with certain options. Made by `options`.

    Args:
        client: Whose view it is; None for the client itself.
        view: What calls go through, on the loop.
    """

    def __init__(self, client: "BlockingClusterClient | None", view: ClusterView) -> None:
        self._client = client if client is not None else cast("BlockingClusterClient", self)
        self._view = view

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call *method* and return its result."""
        return self._client.run(lambda: self._view.call(method, *args, **kwargs))

    def exchange(self, method: str, /, *args: Any, **kwargs: Any) -> Reply:
        """Call *method* and return the whole reply."""
        return self._client.run(lambda: self._view.exchange(method, *args, **kwargs))

    def gather(self, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Make many calls that leave together; return their results, in order."""
        wanted = list(calls)
        return self._client.run(lambda: self._view.gather(wanted))

    def broadcast(self, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call all instances at once, see `ClientView.broadcast`."""
        wanted = _plain(method)
        return self._client.run(lambda: self._view.broadcast(wanted, *args, **kwargs))

    def broadcast_each(self, method: Any, /, *args: Any, **kwargs: Any) -> Iterator[InstanceResult]:
        """Call all instances at once, and iterate over the results as they come."""
        return _each(self._client, self._view.broadcast_each(_plain(method), *args, **kwargs))

    def shard(self, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Split a call over the instances by key, see `ClientView.shard`."""
        wanted = _plain(method)
        return self._client.run(lambda: self._view.shard(wanted, *args, **kwargs))

    def stream(self, method: str, /, *args: Any, **kwargs: Any) -> BlockingStream[Any]:
        """Return a stream, which opens when it is first used."""
        return self.open_stream(Opening(method=method, args=args, kwargs=kwargs))

    def notify(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Send a oneway call."""

        async def notify() -> None:
            await self._client.loops_client.connected()
            self._view.notify(method, *args, **kwargs)

        self._client.run(notify)

    def stub(
        self, service: type[T], name: str | None = None, *, version: str = "", group: str = ""
    ) -> T:
        """Return an object with the methods of *service*."""
        client = self._client.loops_client
        options = client.cluster_options
        stub = make_stub(
            service, name, self._bound, client.codec,
            version=version or options.version, group=group or options.group,
        )  # fmt: skip
        return cast("T", stub)

    def options(
        self,
        *,
        timeout: float | Keep | None = KEEP,
        metadata: Pairs | Keep | None = KEEP,
        key: object = KEEP,
        idempotent: bool | Keep | None = KEEP,
        broadcast: BroadcastMode | Keep = KEEP,
    ) -> "BlockingClusterView":
        """Return a view with other options, see `ClientView.options`."""
        view = self._view.options(
            timeout=timeout, metadata=metadata, key=key, idempotent=idempotent, broadcast=broadcast
        )
        return BlockingClusterView(self._client, view)

    def open_stream(self, opening: Opening) -> BlockingStream[Any]:
        """Return a stream over a socket to an instance that is picked when it opens."""
        opener = partial(self._client.open_at_instance, self._view, opening)
        return BlockingStream(opening, self._view.metadata, opener)

    def _bound(self, bound: Bound) -> Any:
        if bound.info.mode is Mode.STREAM:
            return partial(call_stream, self.open_stream, bound)
        return _Bound(self._client, self._view.bind(bound))


@final
class _Bound:
    """A method of a stub."""

    __slots__ = ("_call", "_client")

    def __init__(
        self, client: "BlockingClusterClient", call: Callable[..., Awaitable[Any]]
    ) -> None:
        self._client = client
        self._call = call

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._client.run(lambda: self._call(*args, **kwargs))


def _plain(method: Any) -> Any:
    """Return the method of a stub as the loop's client has it."""
    return method._call if isinstance(method, _Bound) else method


def _each(client: "BlockingClusterClient", results: InstanceResults) -> Iterator[InstanceResult]:
    """Give what comes; *results* cancel what is open when they are dropped."""

    async def take() -> InstanceResult | None:
        return await anext(results, None)

    while (came := client.run(take)) is not None:
        yield came


@final
class BlockingClusterClient(BlockingClusterView, BlockingClient):
    """The blocking client of a service in a registry. Made by `fastrpc.connect_sync`.

    Args:
        client: What the loop in the thread calls through; belongs to this from now on.
        options: How to behave.
    """

    def __init__(self, client: ClusterClient, options: ClientOptions) -> None:
        if options.interceptors:  # streams would go without them
            raise ConfigError("interceptors are coroutines: a blocking client can't run them")
        self.loops_client = client
        self._options = replace(options, connections=1)
        self._thread = LoopThread(f"fastrpc {client.target}")
        self._is_closed = False
        self._direct: dict[str, _Direct] = {}  # by address, the one used last at the end
        self._leaving: list[_Direct] = []  # closed once nobody uses them
        self._lock = threading.Lock()
        super().__init__(None, client)
        fork.register(self)

    def __repr__(self) -> str:
        """Tell the target."""
        return f"<BlockingClient {self.target}>"

    @property
    def target(self) -> str:
        """Where servers are looked up, and which service."""
        return self.loops_client.target

    def _connect_now(self) -> None:
        self.run(self.loops_client.connected)

    def close(self) -> None:
        """Close all connections."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._thread.run(self.loops_client.aclose())
        finally:
            self._thread.close()
            with self._lock:
                for each in [*self._direct.values(), *self._leaving]:
                    each.client.close()

    def ping(self) -> float:
        """Return the seconds that a ping of a connection takes to come back."""
        return self.run(self.loops_client.ping)

    def stats(self) -> ClientStats:
        """Return what the client knows and does now."""

        async def stats() -> ClientStats:
            return self.loops_client.stats()

        return self.run(stats)

    def after_fork(self) -> None:
        """Let go of the parent's thread and sockets; the child has its own."""
        self._thread.forget()
        self._lock = threading.Lock()
        self._direct = {}
        self._leaving = []

    # What views do through it

    def run(self, start: Callable[[], Awaitable[T]]) -> T:
        """Start something on the loop and wait for what comes of it."""
        if self._is_closed:
            raise ConnectionLost(f"this client of {self.target} is closed", "no")

        async def work() -> T:
            return await start()

        return self._thread.run(work())

    def open_at_instance(self, view: ClusterView, opening: Opening, core: BlockingCore) -> None:
        """Open a stream on a socket to an instance that is picked now."""
        started = time.monotonic()
        address = self.run(lambda: view.pick_address(opening))
        timeout = view.timeout
        left = max(timeout - (time.monotonic() - started), LEAST) if timeout else 0.0
        used = self._directly(address)
        try:
            used.client.open_stream(left, core)
        finally:
            with self._lock:
                used.opening -= 1

    def _directly(self, address: str) -> "_Direct":
        """Return what streams to one instance open through, new if there is none yet."""
        members = list(self.loops_client.fleet.members.values())
        with self._lock:
            used = self._direct.pop(address, None)
            is_new = used is None
            if used is None:
                used = _Direct(DirectBlockingClient(address, self._options))
            self._direct[address] = used  # those used last stand last
            used.opening += 1
            if is_new or len(self._direct) > len(members):
                self._let_go(members, address)
            return used

    def _let_go(self, members: list[Member], address: str) -> None:
        """Part with sockets that are too many, or lead to who is not listed any more."""
        targets = {target for member in members for target in member.instance.addresses}
        listed = {address, *(str(parse_target(target)) for target in targets)}
        for gone in [each for each in self._direct if each not in listed]:
            self._leaving.append(self._direct.pop(gone))
        while len(self._direct) > STREAMS_MAX:
            self._leaving.append(self._direct.pop(next(iter(self._direct))))
        still = []
        for each in self._leaving:  # of some of them somebody may be reading
            if each.opening or not each.client.is_idle:
                still.append(each)
            else:
                each.client.close()
        self._leaving = still


@final
class _Direct:
    """Sockets to one instance, for streams.

    Attributes:
        client: Opens streams.
        opening: How many threads are about to open one.
    """

    __slots__ = ("client", "opening")

    def __init__(self, client: DirectBlockingClient) -> None:
        self.client = client
        self.opening = 0


def connect_cluster_sync(target: str, options: ConnectOptions) -> BlockingClient:
    """Return a blocking client of a service in a registry; `fastrpc.connect_sync` asks for it.

    Raises:
        ConfigError: The target or an option is wrong; the message names it.
    """
    _, plain = split_options(options)
    return BlockingClusterClient(cast("ClusterClient", connect_cluster(target, options)), plain)
