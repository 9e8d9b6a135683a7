"""Read and watch instances in etcd: listed at one revision, told of from the next on.

Rules of the room:
  * entries are anybody's text: one that is wrong, or too long to be read, is stepped over;
  * what was told up to a revision is not asked for again, and nothing behind it is left out;
  * where something may have been missed a listing comes: after a compaction, from another
    store than before, or from one that was set back.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Final, final

import msgspec

from fastrpc.cluster.instance import (
    INSTANCES_MAX,
    Instance,
    InstanceState,
    check_service,
    decode_instance,
)  # fmt: skip
from fastrpc.cluster.registries.etcd_gateway import RANGE, Gateway, Refusal, Stream, TooLong
from fastrpc.cluster.registry import Change, Gone, Listing, Put
from fastrpc.errors import CodecError, ConfigError, RegistryLost

__all__ = ["Reader"]

#: Entries asked for at once; fewer, if they are so long that an answer is over its limit.
_PAGE: Final = 256
_NAMES_PAGE: Final = 1024

#: Most names of services that are told.
SERVICES_MAX: Final = 10_000

#: Seconds for a listing, however many answers it takes.
_LISTING: Final = 30.0

#: Watches that may end one after another without a word before whoever watches is told.
_BARREN_MAX: Final = 3

#: Listings that compaction may overtake, one after another.
_OVERTAKEN_MAX: Final = 3


class _Header(msgspec.Struct, frozen=True):
    cluster_id: int = 0
    revision: int = 0


class Entry(msgspec.Struct, frozen=True):
    """A key and what is there."""

    key: bytes = b""
    value: bytes = b""
    mod_revision: int = 0
    lease: int = 0


class Range(msgspec.Struct, frozen=True):
    """Keys of a range, as they are."""

    header: _Header = _Header()
    kvs: list[Entry] = []
    more: bool = False
    count: int = 0


class _Event(msgspec.Struct, frozen=True):
    type: str = "PUT"
    kv: Entry = Entry()


class _Told(msgspec.Struct, frozen=True):
    header: _Header = _Header()
    created: bool = False
    canceled: bool = False
    cancel_reason: str = ""
    compact_revision: int = 0
    fragment: bool = False
    events: list[_Event] = []


class _Line(msgspec.Struct, frozen=True):
    result: _Told = _Told()
    error: dict[str, Any] | None = None


_LINES: Final = msgspec.json.Decoder(_Line, strict=False)


@final
class _Roster:
    """What is known of a service, and up to which revision.

    Args:
        base: What its keys begin with.
    """

    def __init__(self, base: bytes) -> None:
        self._base = base
        self.known: dict[str, Instance] = {}
        self.skipped = 0
        self.revision = 0
        self.cluster = 0
        self.was_told = False  # something by a watch, or that there was nothing to tell

    def listing(self) -> Listing:
        return Listing(tuple(self.known.values()), self.skipped)

    def add(self, entry: Entry) -> None:
        instance = self._read(entry)
        if instance is None or len(self.known) >= INSTANCES_MAX:
            self.skipped += 1
        else:
            self.known[instance.id] = instance

    def take(self, event: _Event) -> Change | None:
        if event.type == "DELETE":
            gone = self.known.pop(self._id(event.kv), None)
            if gone is None:
                return None
            # etcd does not tell who deletes from what expires; an owner that leaves says so
            # before, by the state.
            return Gone(gone.id, is_explicit=gone.state is not InstanceState.UP)
        instance = self._read(event.kv)
        # What has become unreadable stays what it was.
        if instance is None or self.known.get(instance.id) == instance:
            return None
        if instance.id not in self.known and len(self.known) >= INSTANCES_MAX:
            return None
        self.known[instance.id] = instance
        return Put(instance)

    def _read(self, entry: Entry) -> Instance | None:
        try:
            instance = decode_instance(entry.value)
        except CodecError:
            return None
        return instance if instance.id == self._id(entry) else None

    def _id(self, entry: Entry) -> str:
        return entry.key[len(self._base) :].decode("ascii", "replace")


@final
class Reader:
    """The instances under a prefix.

    Args:
        gateway: Where to ask.
        prefix: What everything is kept under.
        quiet: Seconds of silence after which a watch asks whether it would be told.
    """

    def __init__(self, gateway: Gateway, prefix: str, quiet: float) -> None:
        self._gateway = gateway
        self._root = f"/{prefix}/".encode()
        self._quiet = quiet

    def key(self, service: str, id: str = "") -> bytes:
        """Return the key of an instance, or what those of a service begin with."""
        return self._root + f"{check_service(service)}/{id}".encode()

    async def list(self, service: str) -> Listing:
        """Return what is there now.

        Raises:
            RegistryLost: It can't be asked.
        """
        return (await self._roster(service)).listing()

    async def watch(self, service: str) -> AsyncGenerator[Change, None]:
        """Give a listing and what changes, see `Registry`.

        Raises:
            RegistryLost: It can't go on.
        """
        roster: _Roster | None = None
        barren = 0
        while True:
            if roster is None:
                roster = await self._roster(service)
                yield roster.listing()
            lost = RegistryLost("etcd: every watch may have missed something")
            followed = roster
            followed.was_told = False
            try:
                async with aclosing(self._follow(service, followed)) as changes:
                    async for change in changes:
                        yield change
                roster = None  # something was missed
            except RegistryLost as error:
                lost = error
            barren = 1 if followed.was_told else barren + 1
            if barren >= _BARREN_MAX:
                raise lost

    async def services(self) -> tuple[str, ...]:
        """Return the names of the services that have instances, sorted.

        Raises:
            RegistryLost: It can't be asked.
        """
        found: set[str] = set()
        start, end = self._root, _behind(self._root)
        question = {"range_end": end, "limit": _NAMES_PAGE, "keys_only": True}
        with _in_time():
            async with asyncio.timeout(_LISTING):
                while len(found) < SERVICES_MAX:
                    page = await self._gateway.ask("kv/range", {**question, "key": start}, Range)
                    if isinstance(page, Refusal):
                        raise _refused(page)
                    names = [entry.key[len(self._root) :].split(b"/") for entry in page.kvs]
                    found.update(name for parts in names if (name := _service(parts)))
                    if not page.more or not names:
                        break
                    # On with the next service: the rest of this one says nothing new.
                    start = _behind(self._root + names[-1][0] + b"/")
        return tuple(sorted(found))

    async def _roster(self, service: str) -> _Roster:
        with _in_time():
            async with asyncio.timeout(_LISTING):
                for _ in range(_OVERTAKEN_MAX):
                    roster = await self._read(service)
                    if roster is not None:
                        return roster
        raise RegistryLost("etcd: compacted while it was listed, again and again")

    async def _read(self, service: str) -> _Roster | None:
        """Read all pages at one revision; return None if that was compacted meanwhile."""
        low = self.key(service)
        roster = _Roster(low)
        start, limit = low, _PAGE
        while True:
            question = {
                "key": start,
                "range_end": _behind(low),
                "limit": limit,
                "revision": roster.revision,
            }
            page = await self._gateway.ask_long("kv/range", question, Range)
            if isinstance(page, TooLong):
                if limit > 1:
                    limit = max(limit // 8, 1)
                    continue
                page = await self._gateway.ask("kv/range", {**question, "keys_only": True}, Range)
            if isinstance(page, Refusal):
                if page.code == RANGE:
                    return None
                raise _refused(page)
            if not roster.revision:
                roster.revision, roster.cluster = page.header.revision, page.header.cluster_id
            for entry in page.kvs:
                roster.add(entry)
            if not page.more or not page.kvs:
                return roster
            if len(roster.known) >= INSTANCES_MAX:
                roster.skipped += max(page.count - len(page.kvs), 0)
                return roster
            start = page.kvs[-1].key + b"\0"
            limit = min(limit * 2, _PAGE)

    async def _follow(self, service: str, roster: _Roster) -> AsyncGenerator[Change, None]:
        """Give what changes; end when something may have been missed.

        Raises:
            RegistryLost: Nobody tells any more; what was told is in the roster.
        """
        low = self.key(service)
        create = {
            "key": low,
            "range_end": _behind(low),
            "start_revision": roster.revision + 1,
            "progress_notify": True,
            "fragment": True,
        }
        async with self._gateway.stream("watch", {"create_request": create}) as stream:
            while (told := await self._next(stream, low, roster)) is not None:
                if told.created and told.header.revision < roster.revision:
                    # A host that is behind, or a store that was set back?
                    if not await self._is_same(stream.at, low, roster):
                        return
                    continue
                roster.was_told |= not told.created
                last = roster.revision
                for event in told.events:
                    last = max(last, event.kv.mod_revision)
                    if (change := roster.take(event)) is not None:
                        yield change
                if not told.events and not told.created:
                    last = max(last, told.header.revision)  # all up to there was told
                if not told.fragment:
                    roster.revision = last

    async def _next(self, stream: Stream, low: bytes, roster: _Roster) -> _Told | None:
        """Return what is told next, None if something may have been missed."""
        line: bytes | TooLong | None = b""
        while line == b"":
            try:
                async with asyncio.timeout(self._quiet):
                    line = await stream.next()
            except TimeoutError:
                # A host without a leader, or one that hangs, is as silent as one without news.
                if not await self._is_same(stream.at, low, roster):
                    return None
        if isinstance(line, TooLong):
            return None
        try:
            told = _LINES.decode(line) if line is not None else None
        except msgspec.MsgspecError as error:
            raise RegistryLost(f"etcd: a watch told what is no JSON of etcd's: {error}") from None
        if told is None or told.error is not None:
            self._gateway.leave(stream.at)
            raise RegistryLost(f"etcd: the watch ended{_why(told)}")
        if told.result.compact_revision or told.result.header.cluster_id != roster.cluster:
            return None
        if told.result.canceled:
            raise RegistryLost(f"etcd: the watch ended: {told.result.cancel_reason[:300]}")
        return told.result

    async def _is_same(self, at: int, low: bytes, roster: _Roster) -> bool:
        """Ask one host whether its store, as most of them know it, is the one that was listed.

        Raises:
            RegistryLost: It has no leader, or does not answer.
        """
        question = {"key": low, "range_end": _behind(low), "count_only": True}
        try:
            answer = await self._gateway.ask("kv/range", question, Range, at)
        except RegistryLost:
            self._gateway.leave(at)
            raise
        if isinstance(answer, Refusal):
            raise _refused(answer)
        header = answer.header
        roster.was_told = True
        return header.cluster_id == roster.cluster and header.revision >= roster.revision


@contextmanager
def _in_time() -> Iterator[None]:
    """Say in the words of registries that time is over."""
    try:
        yield
    except TimeoutError:
        raise RegistryLost(f"etcd: no whole answer in {_LISTING:.0f} s") from None


def _service(parts: list[bytes]) -> str:
    """Return the name of the service that a key is of, "" if it is of none."""
    if len(parts) != 2:
        return ""
    try:
        return check_service(parts[0].decode("ascii", "replace"))
    except ConfigError:
        return ""


def _behind(low: bytes) -> bytes:
    """Return the first key behind all that begin with *low*, which ends with a slash."""
    return low[:-1] + b"0"


def _refused(refusal: Refusal) -> RegistryLost:
    return RegistryLost(f"etcd refuses: {refusal.text}")


def _why(line: _Line | None) -> str:
    error = line.error if line is not None and line.error is not None else {}
    return f": {str(error['message'])[:300]}" if "message" in error else ""
