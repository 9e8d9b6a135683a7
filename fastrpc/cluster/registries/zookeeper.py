"""Keep instances in ZooKeeper: nodes that live as long as their owner's session.

The node of an instance is /{prefix}/{service}/{id}. What its owner withdraws is noted
in the node of the service, by the transaction that made it, so that whoever watches can
tell it from an entry whose session has ended.

Rules of the room:
  * that a node exists says nothing: it is ours if its owner is the session that we are
    in now. A node of another session is deleted and made anew in one transaction, for
    it would vanish with that session some time later;
  * every statement begins with a look at what is there. So a reply that was lost does no
    harm: the next look shows what has come of it;
  * a watch of ZooKeeper's is a hint to look. With the connection go all hints: who
    watches here is told to begin anew.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NoReturn, final

from kazoo.exceptions import (  # type: ignore[import-untyped]
    BadVersionError,
    KazooException,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
)

from fastrpc.cluster.instance import (
    INSTANCES_MAX,
    Instance,
    check_service,
    decode_instance,
    encode_instance,
)
from fastrpc.cluster.registries.zksession import ANSWERS, ZkSession
from fastrpc.cluster.registry import Change, Gone, Listing, Put, Registry
from fastrpc.cluster.target import ClusterTarget
from fastrpc.errors import CodecError, ConfigError, RegistryLost

__all__ = ["ZooKeeperRegistry"]

#: Times that a statement is begun anew because somebody else was quicker.
TRIES: Final = 10

#: Nodes that are read at once.
CHUNK: Final = 100

#: Nodes withdrawn lately that a service's node tells of.
WITHDRAWN_MAX: Final = 64

#: What ZooKeeper takes for a step up, and so for no name. No id has a "%" in it.
_ODD: Final = {".": "%2E", "..": "%2E%2E"}
_EVEN: Final = {node: id for id, node in _ODD.items()}

#: Reasons for which a statement is never possible.
_NEVER: Final = (NoAuthError, NoChildrenForEphemeralsError, NotEmptyError)


@final
@dataclass(slots=True)
class _Node:
    """What was seen of one node: who made it, what changed it last, and what it says."""

    made: int
    changed: int
    instance: Instance | None


@final
@dataclass(slots=True)
class _Hints:
    """What somebody who watches has to look at."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    nodes: set[str] = field(default_factory=set)
    has_others: bool = False
    is_broken: bool = False


@final
class _Hub:
    """The one that kazoo calls for a service, so that no watch is set twice.

    Args:
        path: Of the service.
        tell: Calls something on the loop.
    """

    def __init__(self, path: str, tell: Callable[..., None]) -> None:
        self.path = path
        self.hints: list[_Hints] = []
        self._tell = tell

    def on_event(self, event: Any) -> None:
        """Take what kazoo says, in its thread."""
        self._tell(self._note, event.path)

    def _note(self, path: str | None) -> None:
        # Without a path it says that the connection is lost, which is known already.
        for hints in self.hints:
            if path == self.path:
                hints.has_others = True
            elif path is not None:
                hints.nodes.add(path.rpartition("/")[2])
            hints.woken.set()


@final
class ZooKeeperRegistry(Registry):
    """An owner of nodes: what it publishes lives as long as its session.

    Args:
        target: Where ZooKeeper is.
        ttl: Seconds of a session; the server may grant another time, which is what
            `ttl` says from then on.
    """

    def __init__(self, target: ClusterTarget, *, ttl: float) -> None:
        self._base = f"/{target.prefix}"
        self._hubs: dict[str, _Hub] = {}
        self._session = ZkSession(target, ttl, self._break)

    @property
    def ttl(self) -> float:  # type: ignore[override]
        """Seconds of a session, as the server has granted them."""
        return self._session.timeout

    async def publish(self, service: str, instance: Instance) -> None:
        """Make it so, see `Registry`."""
        path = self._path(service, instance.id)
        text = encode_instance(instance)
        try:
            for _ in range(TRIES):
                if await self._state(path, text):
                    return
        except _NEVER as error:
            raise ConfigError(f"zookeeper: {path}: {type(error).__name__}") from error
        raise RegistryLost(f"zookeeper: {path} changes all the time")

    async def withdraw(self, service: str, id: str) -> None:
        """Take an entry of ours away, see `Registry`."""
        path = self._path(service, id)
        try:
            for number in range(TRIES):
                if await self._remove(path, is_noted=number < TRIES - 1):
                    return
        except ANSWERS as error:
            _raise(path, error)
        raise RegistryLost(f"zookeeper: {path} changes all the time")

    async def list(self, service: str) -> Listing:
        """Return what is there now."""
        path = self._path(service)
        try:
            names = sorted(await self._ask(lambda client: client.get_children_async(path)))
        except NoNodeError:
            return Listing(())
        except ANSWERS as error:
            _raise(path, error)
        known: dict[str, _Node] = {}
        await self._read(path, names[:INSTANCES_MAX], known, None)
        return _listing(known, len(names))

    async def watch(self, service: str) -> AsyncGenerator[Change, None]:
        """Give what is there, and then what changes."""
        path = self._path(service)
        hub = self._hubs.setdefault(path, _Hub(path, self._session.tell))
        hints = _Hints(has_others=True)
        hub.hints.append(hints)
        known: dict[str, _Node] = {}
        try:
            names = await self._look(hub, hints, known)
            yield _listing(known, len(names))
            while True:
                await hints.woken.wait()
                before = dict(known)
                names = await self._look(hub, hints, known, names)
                for change in await self._compare(path, before, known):
                    yield change
        finally:
            hub.hints.remove(hints)

    async def services(self) -> tuple[str, ...]:
        """Return the names of the services that have instances, sorted."""
        try:
            names = await self._ask(lambda client: client.get_children_async(self._base))
            services = [name for name in sorted(names) if _is_service(name)][:INSTANCES_MAX]
            nodes = await self._each(
                services, lambda client, name: client.exists_async(self._path(name))
            )
        except NoNodeError:
            return ()
        except ANSWERS as error:
            _raise(self._base, error)
        return tuple(name for name, node in nodes if node is not None and node.numChildren)

    async def wait_lost(self, since: int = 0) -> int:
        """Return when a session was lost, see `Registry`."""
        return await self._session.losses.wait(since)

    async def aclose(self) -> None:
        """Let go of everything; our nodes are gone with the session."""
        await self._session.aclose()

    def _path(self, service: str, id: str = "") -> str:
        path = f"{self._base}/{check_service(service)}"
        return f"{path}/{_ODD.get(id, id)}" if id else path

    async def _ask(self, question: Callable[[Any], Any]) -> Any:
        return await self._session.ask(question)

    async def _state(self, path: str, text: bytes) -> bool:
        """Make it so, or say that it has to be tried again."""
        try:
            there, node = await self._ask(lambda client: client.get_async(path))
        except NoNodeError:
            return await self._create(path, text)
        if node.ephemeralOwner != self._session.id:
            return await self._commit(
                lambda steps: (
                    steps.delete(path, node.version),
                    steps.create(path, text, ephemeral=True),
                )
            )
        if there == text:
            return True
        try:
            await self._ask(lambda client: client.set_async(path, text, node.version))
        except (BadVersionError, NoNodeError):
            return False
        return True

    async def _create(self, path: str, text: bytes) -> bool:
        try:
            await self._ask(lambda client: client.create_async(path, text, ephemeral=True))
        except NodeExistsError:
            return False
        except NoNodeError:
            above = path.rpartition("/")[0]
            await self._ask(lambda client: client.ensure_path_async(above))
            return False
        return True

    async def _remove(self, path: str, *, is_noted: bool) -> bool:
        """Delete a node of ours, or say that it has to be tried again."""
        above = path.rpartition("/")[0]
        try:
            _, node = await self._ask(lambda client: client.get_async(path))
            if node.ephemeralOwner != self._session.id:
                return True
            if not is_noted:
                await self._ask(lambda client: client.delete_async(path, node.version))
                return True
            notes, service = await self._ask(lambda client: client.get_async(above))
        except NoNodeError:
            return True
        except BadVersionError:
            return False
        last = [*_withdrawn(notes), f"{node.czxid:x}"][-WITHDRAWN_MAX:]
        return await self._commit(
            lambda steps: (
                steps.delete(path, node.version),
                steps.set_data(above, " ".join(last).encode(), service.version),
            )
        )

    async def _commit(self, fill: Callable[[Any], object]) -> bool:
        """Do several steps as one, and say whether they were done."""

        def question(client: Any) -> Any:
            steps = client.transaction()
            fill(steps)
            return steps.commit_async()

        results = await self._ask(question)
        for result in results:
            if isinstance(result, _NEVER):
                raise result
        return not any(isinstance(result, KazooException) for result in results)

    async def _look(
        self, hub: _Hub, hints: _Hints, known: dict[str, _Node], names: Sequence[str] = ()
    ) -> Sequence[str]:
        """Bring *known* up to date as far as the hints say, and return the names there are."""
        if self._session.is_closed:
            raise RegistryLost("this registry is closed")
        if hints.is_broken:
            raise RegistryLost("zookeeper: the connection was lost")
        hints.woken.clear()
        has_others, hints.has_others = hints.has_others, False
        nodes, hints.nodes = hints.nodes, set()
        try:
            if has_others:
                names = await self._children(hub)
            some = names[:INSTANCES_MAX]
            for name in known.keys() - set(some):
                del known[name]
            wanted = [name for name in some if name in nodes or name not in known]
            await self._read(hub.path, wanted, known, hub.on_event)
        except ANSWERS as error:
            _raise(hub.path, error)
        if hints.is_broken:
            # What was read may be of two connections, and some of it without a watch.
            raise RegistryLost("zookeeper: the connection was lost")
        return names

    async def _children(self, hub: _Hub) -> Sequence[str]:
        path, watch = hub.path, hub.on_event
        while True:
            try:
                names = await self._ask(lambda client: client.get_children_async(path, watch))
                return sorted(names)
            except NoNodeError:
                # Nobody was ever there. The first one makes the service's node.
                if await self._ask(lambda client: client.exists_async(path, watch)) is None:
                    return ()

    async def _read(
        self,
        path: str,
        names: Sequence[str],
        known: dict[str, _Node],
        watch: Callable[[Any], None] | None,
    ) -> None:
        """Note in *known* what nodes say; those that are gone by now are left as they were."""
        nodes = await self._each(
            names, lambda client, name: client.get_async(f"{path}/{name}", watch)
        )
        for name, found in nodes:
            if found is None:
                continue
            text, node = found
            before = known.get(name)
            if before is None or before.changed != node.mzxid:
                known[name] = _Node(node.czxid, node.mzxid, _decode(name, text))

    async def _each(
        self, names: Sequence[str], question: Callable[[Any, str], Any]
    ) -> Iterable[tuple[str, Any]]:
        """Ask something for each name, a few at once; None stands for nodes that are not."""
        found: dict[str, Any] = {}
        for start in range(0, len(names), CHUNK):
            some = names[start : start + CHUNK]
            asked = [self._ask(partial(_about, question, name)) for name in some]
            found.update(zip(some, await _gather(asked), strict=True))
        return found.items()

    async def _compare(
        self, path: str, before: dict[str, _Node], after: dict[str, _Node]
    ) -> Sequence[Change]:
        """Return what was told by one state of affairs, and is otherwise in another."""
        gone = [
            name
            for name, node in before.items()
            if node.instance and (name not in after or after[name].instance is None)
        ]
        explicit: set[str] = set()
        if gone:
            try:
                notes, _ = await self._ask(lambda client: client.get_async(path))
                explicit = set(_withdrawn(notes))
            except ANSWERS:
                pass  # then nobody can tell
        put = [
            node.instance
            for name, node in after.items()
            if node.instance is not None
            and before.get(name) is not node
            and (name not in before or before[name].instance != node.instance)
        ]
        return (
            *(Gone(_EVEN.get(name, name), f"{before[name].made:x}" in explicit) for name in gone),
            *map(Put, put),
        )

    def _break(self) -> None:
        for hub in self._hubs.values():
            for hints in hub.hints:
                hints.is_broken = True
                hints.woken.set()


def _about(question: Callable[[Any, str], Any], name: str, client: Any) -> Any:
    return question(client, name)


async def _gather(asked: Iterable[Any]) -> Sequence[Any]:
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, NoNodeError):
            raise answer
    return [None if isinstance(answer, NoNodeError) else answer for answer in answers]


def _decode(name: str, text: bytes) -> Instance | None:
    try:
        instance = decode_instance(text)
    except CodecError:
        return None
    return instance if instance.id == _EVEN.get(name, name) else None


def _listing(known: dict[str, _Node], count: int) -> Listing:
    there = tuple(node.instance for node in known.values() if node.instance is not None)
    wrong = len(known) - len(there)
    return Listing(there, skipped=wrong + max(count - INSTANCES_MAX, 0))


def _withdrawn(notes: bytes) -> Sequence[str]:
    """Read which nodes of a service were withdrawn lately."""
    return notes[: 20 * WITHDRAWN_MAX].decode("ascii", "replace").split()


def _is_service(name: str) -> bool:
    try:
        check_service(name)
    except ConfigError:
        return False
    return True


def _raise(path: str, error: Exception) -> NoReturn:
    raise RegistryLost(f"zookeeper: {path}: {type(error).__name__}") from error
