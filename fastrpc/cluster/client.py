"""Call the instances of a service that a registry knows, as if they were one server."""

import asyncio
import contextlib
import copy
import functools
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, Final, TypeVar, Unpack, final

from fastrpc.client.client import CLOSE_PATIENCE, Client, ClientState
from fastrpc.client.link import Link
from fastrpc.client.options import CLUSTER_OPTIONS, ClientOptions, ConnectOptions, read_options
from fastrpc.client.stats import ClientStats
from fastrpc.cluster.choose import balancer_for
from fastrpc.cluster.engines import open_registry
from fastrpc.cluster.fleet import Fleet
from fastrpc.cluster.instance import check_service
from fastrpc.cluster.member import Member
from fastrpc.cluster.options import ClusterOptions
from fastrpc.cluster.origin import CallPlan, ClusterOrigin
from fastrpc.cluster.registry import Registry
from fastrpc.cluster.resolver import Resolver
from fastrpc.cluster.roll import Freshness
from fastrpc.cluster.shard import Shards
from fastrpc.cluster.target import ANY_SERVICE, PORTS, parse_cluster
from fastrpc.cluster.timings import Recent
from fastrpc.cluster.view import ClusterView
from fastrpc.errors import ConfigError, DeadlineExceeded, FastRPCError, Unavailable
from fastrpc.frame import Lane
from fastrpc.policy import RetryBudget
from fastrpc.session import Late, Session, Side, outcome
from fastrpc.session.stub import Bound
from fastrpc.transport import parse_target

T = TypeVar("T")

__all__ = ["ClusterClient", "connect_cluster", "connect_registry"]

#: Longest planned wait between attempts to reach an instance that is listed but not there.
RETRY_CAP: Final = 8.0

#: How long it may take to be told which methods are idempotent, in seconds.
ASKING: Final = 1.0

#: So long what a server has said of its methods is believed, in seconds.
BELIEVED: Final = 60.0

DESCRIBE: Final = "fastrpc.describe"

#: So often the budget is told of calls, in seconds.
DEPOSITS: Final = 0.1


@final
class ClusterClient(ClusterView, Client):
    """The client of a service in a registry. Made by `fastrpc.connect`.

    Args:
        target: What it is called in errors.
        service: Name of the service in the registry.
        make_registry: Opens the registry; asked once, and again in a child of a fork.
        options: How to behave.
        cluster_options: How to choose instances, and what to do about failures.
    """

    def __init__(
        self,
        target: str,
        service: str,
        make_registry: Callable[[], Registry],
        options: ClientOptions,
        cluster_options: ClusterOptions,
    ) -> None:
        self._named = target
        self._service = service
        self._make_registry = make_registry
        self._registry: Registry | None = make_registry()  # says now what can't be used
        self.cluster_options = cluster_options
        self.balancer = balancer_for(cluster_options)
        self.places: dict[str, dict[str, int]] = {}
        self.shards = Shards()
        self._idempotent: dict[str, bool] = {}  # as stubs say
        self._told: dict[str, bool] = {}  # as a server has said
        self._told_until = 0.0
        self.timings = Recent()
        self._asking: asyncio.Future[None] | None = None
        self._resolver: Resolver | None = None
        self._fleet: Fleet | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._start_budget()
        Client.__init__(self, options)
        self._origin = self._route

    def _start_budget(self) -> None:
        options = self.cluster_options
        self.budget = RetryBudget(options.retry_share, options.retry_rate)
        self._deposited_at = 0.0
        self._ended = self._retried = self._retries = 0

    @property
    def target(self) -> str:
        """Where servers are looked up, and which service."""
        return self._named

    @property
    def patience(self) -> float:
        """How long calls without a deadline wait for a list, in seconds."""
        return self._options.connect_timeout

    @property
    def fleet(self) -> Fleet:
        """The members.

        Raises:
            ConfigError: The client was not used yet.
        """
        return self._begun(self._fleet)

    @property
    def resolver(self) -> Resolver:
        """Who knows the instances.

        Raises:
            ConfigError: The client was not used yet.
        """
        return self._begun(self._resolver)

    def _begun(self, part: T | None) -> T:
        if part is None:
            raise ConfigError(f"this client of {self.target} has not begun to connect")
        return part

    async def aclose(self) -> None:
        """Close all connections; calls that are open fail. Twice is fine."""
        if self._state is ClientState.OPEN:
            self._running_loop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        try:
            if self._resolver is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CLOSE_PATIENCE):
                        await self._resolver.aclose()
        finally:
            if self._fleet is not None:
                self._fleet.close()
            try:
                await super().aclose()
            finally:
                if tasks:
                    await asyncio.wait(tasks)
                if self._registry is not None:
                    await self._registry.aclose()

    def stats(self) -> ClientStats:
        """Return what the client knows and does now."""
        plain, now = super().stats(), time.monotonic()
        if self._fleet is None or self._resolver is None:
            return replace(plain, freshness=Freshness.UNKNOWN.value)
        known = self._resolver.stats()
        return replace(
            plain,
            freshness=known.freshness.value,
            registry_error=known.failure,
            retries=self._retries,
            retries_refused=self.budget.refused,
            instances=tuple(each.stats(now) for each in self._fleet.members.values()),
        )

    # What views are made of

    def _caller_for(self, timeout: float, metadata: bytes) -> Any:
        options = self.cluster_options
        self._client = self
        attempts = 1 if options.failure_mode == "fail_fast" else options.attempts
        key_of = options.key if callable(options.key) else None
        plan = CallPlan(options.failure_mode, attempts, options.hedge_after, key_of=key_of)
        self._route = ClusterOrigin(self, plan)
        return super()._caller_for(timeout, metadata)

    def know(self, bound: Bound) -> None:
        """Keep what a stub's class says of a method."""
        info, name = bound.info, bound.key
        self._idempotent[name] = info.traits.idempotent
        self.places[name] = {each.name: place for place, each in enumerate(info.shown)}

    async def is_idempotent(self, name: str, deadline: float = 0.0) -> bool:
        """Say whether *name* may be run twice, as its class or else the servers say.

        Args:
            name: Full method name.
            deadline: Until when somebody may be asked, 0 for as long as that takes.
        """
        known = self._idempotent.get(name)
        if known is None and name != DESCRIBE:
            if time.monotonic() >= self._told_until and (
                self._asking is None or self._asking.done()
            ):
                self._asking = self.keep(self._ask())
            if self._asking is not None and not self._asking.done():
                left = max(deadline - time.monotonic(), 0.0) if deadline else None
                await asyncio.wait([self._asking], timeout=left)
            known = self._told.get(name)
        return bool(known)

    async def _ask(self) -> None:
        """Learn from a server which methods are idempotent."""
        self._told_until = time.monotonic() + ASKING
        try:
            async with asyncio.timeout(ASKING):
                told = await self.describe()
        except (FastRPCError, TimeoutError):
            return
        self._told_until = time.monotonic() + BELIEVED
        self._told = {
            method["name"]: bool(method.get("idempotent"))
            for service in told.get("services", ())
            for method in service.get("methods", ())
        }

    # Binding to a loop

    def links(self) -> list[Link]:
        """Return all connections that come back."""
        return self._fleet.links if self._fleet is not None else []

    def begin(self) -> None:
        """Begin to look up and to connect, unless that is under way."""
        self._bind()

    def _begin(self, side: Side, loop: asyncio.AbstractEventLoop) -> None:
        if self._fleet is not None:
            return
        options = self.cluster_options
        self._fleet = Fleet(
            options, self.balancer, self.lanes, loop, functools.partial(self._links_to, side, loop),
            self._arranged,
        )  # fmt: skip
        if self._registry is None:
            self._registry = self._make_registry()
        self._resolver = Resolver(
            self._registry,
            self._service,
            changed=self._listed,
            version=options.version,
            group=options.group,
            cache=options.cache,
        )
        self._resolver.begin()

    def _arranged(self) -> None:
        """Tell who waits; and the registry, if some that it lists can't be reached."""
        if self.fleet.is_short and self._resolver is not None:
            self._resolver.hint()
        self._changed()

    def _listed(self) -> None:
        """Take the list of instances that the resolver has now."""
        assert self._resolver is not None
        self.fleet.take(self._resolver.instances, time.monotonic())

    def _links_to(self, side: Side, loop: asyncio.AbstractEventLoop, member: Member) -> list[Link]:
        options = self._options
        targets = [parse_target(each) for each in member.instance.addresses]
        places = [(target, options.encryption(target)) for target in targets]
        return [
            Link(
                side, loop, places, options.connect_timeout, options.proxy,
                self.codec.serializer, member.lanes,
                functools.partial(self.fleet.link_changed, member), RETRY_CAP, self.fleet.stretch,
            )
            for _ in range(options.connections)
        ]  # fmt: skip

    def _forget(self) -> None:
        self._fleet = self._resolver = self._registry = self._asking = None
        self._tasks = set()
        self.balancer.update([], 0.0)
        self._start_budget()

    # Calls

    def keep(self, work: Coroutine[Any, Any, None]) -> "asyncio.Future[None]":
        """Run *work* in a task that is cancelled when the client is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def pays(self, now: float) -> bool:
        """Take one retry out of the budget; False if there is none left."""
        if now - self._deposited_at >= DEPOSITS:
            self._deposited_at = now
            ended = self.fleet.ended
            self.budget.deposit(max(ended - self._ended - self._retried, 0), now)
            self._ended, self._retried = ended, 0
        is_paid = self.budget.withdraw(now)
        self._retried += is_paid
        self._retries += is_paid
        return is_paid

    def late(self, name: str, started: float, deadline: float) -> Late:
        """Return what makes the error of a call that is late."""
        return functools.partial(outcome.late, name, started, deadline, address=self.target)

    async def wait_for_place(
        self, name: str, started: float, deadline: float
    ) -> tuple[Lane, float, Late]:
        """Wait for a connection and room on it, see `_place`."""
        left = deadline - time.monotonic() if deadline else 0.0
        if deadline and left <= 0.0:
            raise self.late(name, started, deadline)(time.monotonic(), sent=False)
        try:
            return await self._place(name, left)
        except DeadlineExceeded as error:
            if not self.lanes:  # there was nowhere to go: say why
                error.message = f"{error.message}; {self.why_nobody()}"
                error.args = (error.message,)
            raise

    async def pause(self, seconds: float) -> None:
        """Wait so long.

        Raises:
            ConnectionLost: The client was closed meanwhile.
        """
        until = time.monotonic() + seconds
        while await self.wait_for_news(until):
            pass

    async def wait_for_news(self, deadline: float) -> bool:
        """Wait until the list or a connection has changed; False if *deadline* came first.

        Raises:
            ConnectionLost: The client is closed.
        """
        is_news = await self._news.wait(deadline)
        self._bind()
        return is_news

    async def wait_for_room(self, member: Member, deadline: float) -> bool:
        """Wait until *member* may take a call; False if *deadline* came first.

        Raises:
            ConnectionLost: The client is closed.
        """
        is_room = await self._room.wait_for(member.lanes, deadline)
        self._bind()
        return is_room

    async def connected(self) -> None:
        """Wait until an instance can be called.

        Raises:
            FastRPCError: As calls do that have nowhere to go.
        """
        await self._connected()

    async def _connected(self) -> Session:
        while True:
            self._bind()
            for lane in self.lanes:
                if isinstance(lane.owner, Session):
                    return lane.owner
            await self._attempt(0.0)

    async def _attempt(self, deadline: float) -> bool:
        """Wait until an instance can be called; False if the deadline came first.

        Raises:
            FastRPCError: None is known, or none of those that are can be reached.
        """
        self._bind()
        patience = time.monotonic() + self._options.connect_timeout
        until = min(deadline, patience) if deadline else patience
        before = self.fleet.attempts_ended
        while not self.lanes:
            if not await self._news.wait(until):
                if deadline and time.monotonic() >= deadline:
                    return False
                raise self.why_nobody()
            self._check_open()
            if self.lanes or self.fleet.is_dialling:
                continue
            if self.fleet.members and self.fleet.attempts_ended > before:
                raise self.why_nobody()
        return True

    def why_nobody(self) -> FastRPCError:
        """Return the error of a call that has nowhere to go."""
        failures = [link.failure for link in self.links() if link.failure is not None]
        if self.fleet.members and failures:
            return copy.copy(failures[0])  # its own for each: tracebacks are not shared
        why = self.resolver.failure
        if isinstance(why, FastRPCError):
            return copy.copy(why)
        if self.fleet.members:
            return Unavailable(f"{self.target}: no instance of {len(self.fleet.members)} is ready")
        return Unavailable(f"{self.target}: no instance is listed")


def connect_cluster(target: str, options: ConnectOptions) -> Client:
    """Return a client of the service that *target* names; `fastrpc.connect` asks for it.

    Raises:
        ConfigError: The target or an option is wrong; the message names it.
    """
    where = parse_cluster(target)
    if where.scheme in PORTS and not where.service:
        raise ConfigError(f"target {where}: which service? such as {where}/Arith")
    chosen, plain = split_options(options)
    return ClusterClient(
        str(where),
        where.service or ANY_SERVICE,
        functools.partial(open_registry, where, ttl=chosen.ttl),
        plain,
        chosen,
    )


def connect_registry(
    registry: Registry | Callable[[], Registry], service: str, **options: Unpack[ConnectOptions]
) -> Client:
    """Return a client of *service* in a registry of your own; nothing is connected yet.

    Args:
        registry: Where instances are listed, or what makes that: a client that is to be used
            in a child of a fork, too, needs the second. The client closes it.
        service: Which of its services.
        **options: As `fastrpc.connect` has them.

    Raises:
        ConfigError: An option is wrong; the message names it.
    """
    chosen, plain = split_options(options)
    what = getattr(registry, "__name__", type(registry).__name__)
    make = functools.partial(_only_once, [registry]) if isinstance(registry, Registry) else registry
    return ClusterClient(f"{what}/{check_service(service)}", service, make, plain, chosen)


def _only_once(left: list[Registry]) -> Registry:
    """Return the one registry there is: a child of a fork must not use its parent's."""
    if not left:
        raise ConfigError(
            "in a child of a fork a registry has to be made anew:"
            " give connect_registry a function that makes it"
        )
    return left.pop()


def split_options(options: ConnectOptions) -> tuple[ClusterOptions, ClientOptions]:
    """Return the options of a cluster, and those of every client.

    Raises:
        ConfigError: One is unknown or wrong; the message names it.
    """
    given: dict[str, Any] = {**options}
    chosen = {name: given.pop(name) for name in given.keys() & CLUSTER_OPTIONS}
    rest: Any = given
    return ClusterOptions(**chosen), read_options(rest)
