"""Use fastrpc's own registry servers, `fastrpc registry`: publish, list and watch there.

A registry server is one process, and several of them don't know each other. Their hosts
stand in the target, `registry://a:7070,b:7070/Arith`, and so they are used:

* an owner publishes to all of them, and has published when one has taken it; the others
  get the next renewal;
* who lists or watches asks the one that answered last, and the next if it doesn't.

There is nothing to agree upon: an entry is a lease of one owner, who states it again and
again, to a server that has just come as to all others.

Rules of the room:
  * nobody waits long for a host that is not there while another one has answered;
  * a watch that is cut off goes on from where it was, if that server still knows;
  * what a server sends is checked: it may be anybody's.
"""

import asyncio
import functools
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final, TypeVar, final

from fastrpc.client import Client, connect
from fastrpc.cluster.instance import (
    INSTANCES_MAX,
    Instance,
    check_id,
    check_service,
    decode_instance,
    encode_instance,
)
from fastrpc.cluster.registrar.contract import NAME, News, Refusal, RegistryContract
from fastrpc.cluster.registry import Change, Gone, Listing, Losses, Put, Registry
from fastrpc.cluster.target import ClusterTarget
from fastrpc.errors import CodecError, ConfigError, FastRPCError, RegistryLost, RpcError
from fastrpc.policy import Backoff
from fastrpc.transport import TlsOptions, join_host

__all__ = ["EmbeddedRegistry"]

#: Seconds for one host: to connect, to answer, to list everything.
CONNECT: Final = 2.0
ANSWER: Final = 3.0
LISTING: Final = 10.0

#: Seconds that other hosts get when one has taken an entry; then they are left to go on.
PATIENCE: Final = 0.2

#: Seconds of silence until a host is asked whether it is there, and to answer that.
IDLE: Final = 5.0

#: Longest planned wait until a watch that broke is opened again.
RETRY_CAP: Final = 2.0

T = TypeVar("T")

#: What is done at one host.
_Do = Callable[["_Host"], Awaitable[T]]


@final
class _Host:
    """One registry server.

    Attributes:
        text: Where it is.
        is_away: Whether it did not do what it was last asked to do.
        api: Its methods; each call has a deadline.
        long: The same without one, for what goes on and on.
    """

    def __init__(self, text: str, tls: TlsOptions | None) -> None:
        self.text = text
        self.is_away = False
        self.client: Client = connect(
            text, connect_timeout=CONNECT, idle_ping=IDLE, ping_timeout=IDLE, tls=tls
        )
        self.api = self.client.options(timeout=ANSWER).stub(RegistryContract, NAME)
        self.lists = self.client.options(timeout=LISTING).stub(RegistryContract, NAME)
        self.long = self.client.stub(RegistryContract, NAME)


@final
class EmbeddedRegistry(Registry):
    """An owner of entries in fastrpc's own registry servers.

    Args:
        target: Where they are.
        ttl: Seconds for which what is published outlives its publisher.
        tls: Whom to trust, if connections are encrypted.

    Attributes:
        owner: What proves to the servers that an entry is this object's.
    """

    def __init__(
        self, target: ClusterTarget, *, ttl: float = 15.0, tls: TlsOptions | None = None
    ) -> None:
        if target.user:
            raise ConfigError(f"target {target}: a registry server has no users")
        scheme = "tls" if target.is_secure or tls is not None else "tcp"
        self._hosts = [_Host(f"{scheme}://{join_host(*each)}", tls) for each in target.hosts]
        self._prefix = target.prefix
        self._first = 0  # the host that answered last
        self._guards: list[asyncio.Task[None]] = []
        self._late: dict[tuple[str, str], set[asyncio.Task[None]]] = {}
        self._losses = Losses()
        self._is_closed = False
        self.owner = uuid.uuid4().hex
        self.ttl = ttl

    async def publish(self, service: str, instance: Instance) -> None:
        """Make it so at every host, see `Registry`."""
        check_service(service)
        text = encode_instance(instance)
        self._keep_watch()

        async def put(host: _Host) -> None:
            await host.api.publish(self._prefix, service, instance.id, text, self.owner, self.ttl)

        await self._everywhere((service, instance.id), put)

    async def withdraw(self, service: str, id: str) -> None:
        """Take an entry of ours away at every host, see `Registry`."""
        check_service(service)
        check_id(id)

        async def remove(host: _Host) -> None:
            await host.api.withdraw(self._prefix, service, id, self.owner)

        await self._everywhere((service, id), remove)

    async def list(self, service: str) -> Listing:
        """Return what the first host that answers has."""
        check_service(service)

        async def read(host: _Host) -> Listing:
            found = _Reading()
            async with aclosing(_news(host.lists.listing(self._prefix, service))) as parts:
                async for news in parts:
                    for change in found.take(news):
                        if isinstance(change, Listing):
                            return change
            raise RegistryLost("the list has no end")

        return await self._somewhere(read)

    async def services(self) -> tuple[str, ...]:
        """Return the names of the services that have instances, sorted."""

        async def read(host: _Host) -> tuple[str, ...]:
            return tuple(sorted(await host.api.services(self._prefix)))

        return await self._somewhere(read)

    async def watch(self, service: str) -> AsyncGenerator[Change, None]:
        """Give what is there, and then what changes, from whichever host is there."""
        check_service(service)
        readings: dict[_Host, _Reading] = {}
        backoff = Backoff(first=0.05, cap=RETRY_CAP)
        while True:
            problems: list[str] = []
            was_told = False
            for host in self._in_order():
                reading = readings.get(host) or _Reading()
                readings = {host: reading}  # another host's list is another list
                stream = host.long.watch(self._prefix, service, reading.epoch, reading.revision)
                try:
                    async with aclosing(_news(stream)) as parts:
                        async for news in parts:
                            self._first, was_told = self._hosts.index(host), True
                            backoff.reset()
                            for change in reading.take(news):
                                yield change
                    problems.append(f"{host.text}: the watch has ended")
                except FastRPCError as error:
                    problems.append(f"{host.text}: {error}")
                reading.begin_again()
                if was_told:
                    break  # it was there: look there first, soon
            if self._is_closed or not was_told:
                raise RegistryLost("; ".join(problems))
            await asyncio.sleep(backoff.next())

    async def wait_lost(self, since: int = 0) -> int:
        """Return when a host has forgotten what we have published, or is back."""
        self._keep_watch()
        return await self._losses.wait(since)

    async def aclose(self) -> None:
        """Let go; what was published expires. Twice is fine."""
        self._is_closed = True
        tasks = [*self._guards, *(task for tasks in self._late.values() for task in tasks)]
        self._guards = []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.gather(*(host.client.aclose() for host in self._hosts))

    # Inside

    def _in_order(self) -> Sequence[_Host]:
        return [*self._hosts[self._first :], *self._hosts[: self._first]]

    def _check_open(self) -> None:
        if self._is_closed:
            raise RegistryLost("this registry is closed")

    async def _somewhere(self, do: _Do[T]) -> T:
        """Do it at the first host where it works."""
        self._check_open()
        problems: list[str] = []
        for host in self._in_order():
            try:
                answer = await do(host)
            except FastRPCError as error:
                problems.append(_told(host, error))
            else:
                self._first = self._hosts.index(host)
                return answer
        raise RegistryLost("; ".join(problems))

    async def _everywhere(self, key: tuple[str, str], do: _Do[None]) -> None:
        """Do it at all hosts; done when one has done it, and the others had a moment."""
        self._check_open()
        for late in self._late.pop(key, ()):
            late.cancel()  # what it was to say is out of date
        if len(self._hosts) == 1:
            try:
                return await do(self._hosts[0])
            except FastRPCError as error:
                raise RegistryLost(_told(self._hosts[0], error)) from error
        tasks = {asyncio.ensure_future(do(host)): host for host in self._hosts}
        for task, host in tasks.items():
            task.add_done_callback(functools.partial(_noted, host))
        try:
            waiting = await _one_at_least(tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            raise
        if waiting:
            self._leave(key, waiting)

    def _leave(self, key: tuple[str, str], tasks: "set[asyncio.Task[None]]") -> None:
        """Let *tasks* go on by themselves, until the same is to be said anew."""
        self._late[key] = tasks

        def ended(task: "asyncio.Task[None]") -> None:
            tasks.discard(task)
            if not tasks and self._late.get(key) is tasks:
                del self._late[key]

        for task in list(tasks):
            task.add_done_callback(ended)

    def _keep_watch(self) -> None:
        """Hear of it when a host has let go of what is ours."""
        self._check_open()
        if not self._guards:
            self._guards = [asyncio.ensure_future(self._guard(host)) for host in self._hosts]

    async def _guard(self, host: _Host) -> None:
        backoff = Backoff(first=0.1, cap=RETRY_CAP)
        is_known = False
        while True:
            stream = host.long.owned(self.owner)
            try:
                async for _ in stream:
                    backoff.reset()
                    if is_known:  # expired, or cut off and perhaps begun anew
                        self._losses.note()
                    is_known = True
            except FastRPCError:
                is_known = True  # it may come back without what is ours
            finally:
                await _left(stream)
            await asyncio.sleep(backoff.next())


def _noted(host: _Host, task: "asyncio.Task[None]") -> None:
    """Note how *task* ended; nobody else has to hear of it, the next renewal meets it, too."""
    if not task.cancelled():
        host.is_away = task.exception() is not None


async def _one_at_least(tasks: "dict[asyncio.Task[None], _Host]") -> "set[asyncio.Task[None]]":
    """Wait until one of *tasks* has succeeded, and a moment for the others; return the rest.

    Raises:
        RegistryLost: None has.
    """
    waiting = set(tasks)
    problems: list[str] = []
    is_done = False
    while waiting:
        # Who was away the last time gets no moment, but may be back.
        moment = PATIENCE if any(not tasks[task].is_away for task in waiting) else 0.0
        done, waiting = await asyncio.wait(
            waiting,
            timeout=moment if is_done else None,
            return_when=asyncio.FIRST_COMPLETED,
        )
        for task in done:
            try:
                task.result()
                is_done = True
            except FastRPCError as error:
                problems.append(_told(tasks[task], error))
        if not done:
            break  # they had their moment
    if not is_done:
        raise RegistryLost("; ".join(problems))
    return waiting


@final
class _Reading:
    """What one host has told about a service.

    Attributes:
        epoch: Of the server, "" at first.
        revision: Up to which its news are known.
    """

    def __init__(self) -> None:
        self._listed: dict[str, Instance] | None = None
        self._skipped = 0
        self._known: dict[str, Instance] = {}
        self.epoch = ""
        self.revision = 0

    def begin_again(self) -> None:
        """Forget the part of a list that has no end yet."""
        self._listed = None

    def take(self, news: News) -> list[Change]:
        """Return what *news* mean.

        Raises:
            RegistryLost: No registry server says so.
        """
        changes: list[Change] = []
        if news.is_listing:
            self._list(news)
            if not news.is_more:
                assert self._listed is not None
                changes.append(Listing(tuple(self._listed.values()), self._skipped))
                self._known, self._listed = self._listed, None
        elif not self.epoch:
            raise RegistryLost("the registry server began without a list")
        else:
            changes = [change for entry in news.entries for change in self._changed(*entry)]
        if not news.is_more:
            self.epoch, self.revision = news.epoch, news.revision
        return changes

    def _list(self, news: News) -> None:
        if self._listed is None:
            self._listed, self._skipped = {}, 0
        for id, text, _ in news.entries:
            if (instance := _read(id, text)) is None:
                self._skipped += 1
            else:
                self._listed[id] = instance
        if len(self._listed) > INSTANCES_MAX or self._skipped > INSTANCES_MAX:
            raise RegistryLost(f"the registry server lists more than {INSTANCES_MAX} instances")

    def _changed(self, id: str, text: bytes | None, is_explicit: bool) -> list[Change]:
        instance = _read(id, text)
        if instance is not None:
            if len(self._known) >= INSTANCES_MAX and id not in self._known:
                raise RegistryLost(f"the registry server tells of over {INSTANCES_MAX} instances")
            before, self._known[id] = self._known.get(id), instance
            return [Put(instance)] if instance != before else []
        if self._known.pop(id, None) is None:
            return []  # one that could not be read before either
        return [Gone(id, is_explicit=is_explicit and text is None)]


def _read(id: str, text: bytes | None) -> Instance | None:
    if text is None:
        return None
    try:
        instance = decode_instance(text)
    except CodecError:
        return None
    return instance if instance.id == id else None


def _told(host: _Host, error: FastRPCError) -> str:
    """Return what is to be said of *error*, or raise it if asking again won't help."""
    if isinstance(error, RpcError) and error.code == Refusal.WRONG:
        raise ConfigError(f"{host.text}: {error.message}") from error
    return f"{host.text}: {error}"


async def _news(stream: AsyncIterator[News]) -> AsyncGenerator[News, None]:
    """Give what comes on *stream*, whose first part has to come soon: a server may hang.

    Raises:
        RegistryLost: It doesn't.
    """
    try:
        items = aiter(stream)
        try:
            async with asyncio.timeout(ANSWER):
                first = await anext(items)
        except TimeoutError:
            raise RegistryLost(f"no answer within {ANSWER:g} s") from None
        except StopAsyncIteration:
            return
        yield first
        async for news in items:
            yield news
    finally:
        await _left(stream)


async def _left(stream: AsyncIterator[object]) -> None:
    """Give up *stream*, wherever it stands."""
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
