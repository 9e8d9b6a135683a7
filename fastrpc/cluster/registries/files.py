"""Take the instances from a file that people or programs write: TOML or JSON.

    [services]
    Arith = ["tcp://10.0.0.1:7000", "tcp://10.0.0.2:7000"]

    [[services.Words]]
    id = "words-1"                        # made from the first address if it is missing
    addresses = ["tcp://10.0.0.3:7000", "unix:///run/words.sock"]
    weight = 2.0
    zone = "eu-1"
    version = "2"
    group = "blue"
    tags = { rack = "7" }
    state = "up"                          # or "draining", "down"

    [[services."shop.Orders"]]            # a name with dots needs quotes
    address = "tcp://10.0.0.4:7000"       # where there is but one

In JSON: `{"services": {"Arith": ["tcp://10.0.0.1:7000", {"address": "...", "zone": "a"}]}}`.
The table `services` has to be there, so that a file that was emptied is no empty list.

Write a new file and rename it over the old one, or swap a symbolic link as Kubernetes does.
The file is looked at every second. One that changes is read when it has rested for a
second; one that can't be read as a whole leaves everything as it was, the list counts as
stale, and the log says so once. An entry that can't be read is left out.

Rules of the room:
  * who takes an instance out of the file means it: it is gone at once;
  * the file is looked at and read in a thread, and only if it is not too long;
  * what reading costs is bounded: TOML's parser walks every key from its first name on.
"""

import asyncio
import json
import logging
import os
import re
import stat
import tomllib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

from fastrpc.cluster.instance import (
    INSTANCES_MAX,
    Instance,
    InstanceState,
    check_service,
    id_of,
)
from fastrpc.cluster.registries.aside import Aside
from fastrpc.cluster.registry import Change, Gone, Listing, Losses, Put, Registry
from fastrpc.cluster.target import ANY_SERVICE, ClusterTarget
from fastrpc.errors import ConfigError, RegistryLost

__all__ = ["FILE_MAX", "FileRegistry"]

#: Longest file, of JSON and of TOML, whose parser takes seconds for what JSON's does at once.
FILE_MAX: Final = 8 * 2**20
TOML_MAX: Final = 2**20

#: Most names with dots between that a key of TOML may have; ours have four.
NAMES_MAX: Final = 16

#: Most services of a file.
SERVICES_MAX: Final = 10_000

#: Seconds between looks at the file.
EVERY: Final = 1.0

#: Looks that a file which never rests is given until it is read all the same.
_WAITS: Final = 5

#: Seconds that a look may take, on a disk that is far away.
PATIENCE: Final = 10.0

_FIELDS: Final = frozenset(
    {"id", "address", "addresses", "weight", "zone", "version", "group", "tags", "state"}
)
_STATES: Final = {each.value: each for each in InstanceState}

# All that a text of TOML is made of, as far as it takes to tell keys from what looks like
# some. Each alternative matches without going back, so a text is read in linear time.
_BASIC: Final = r'"(?:[^"\\\n]++|\\[^\n])*+(?:"|\\?(?=\n|\Z))'
_NAME: Final = rf"(?:[A-Za-z0-9_-]++|{_BASIC}|'[^'\n]*+'?)"
_TOKEN: Final = re.compile(
    r'"""(?:[^"\\]++|\\.|"(?!""))*+(?:"{3,5}|\\?\Z)'
    r"|'''(?:[^']++|'(?!''))*+(?:'{3,5}|\Z)"
    r"|#[^\n]*+"
    rf"|(?P<deep>{_NAME}(?:[ \t]*+\.[ \t]*+{_NAME}){{{NAMES_MAX}}})"
    rf"|{_NAME}|[^A-Za-z0-9_\-\"'#]++",
    re.DOTALL,
)

#: What tells that a file is another one than before.
_Stamp = tuple[int, int, int, int, int]


@final
@dataclass(frozen=True, slots=True)
class _Content:
    """What a file says."""

    services: Mapping[str, Listing] = field(default_factory=dict)
    number: int = 0  # how many were read before


@final
class FileRegistry(Registry):
    """The instances that a file names.

    Args:
        target: Names the file.
        ttl: Of no use: nothing expires.
        every: Seconds between looks at the file.
    """

    can_publish = False

    def __init__(
        self, target: ClusterTarget, *, ttl: float = float("inf"), every: float = EVERY
    ) -> None:
        self._reader = _Reader(target.path)
        self._look = Aside(self._reader.look, "fastrpc-file")
        self._every = every
        self._closed = asyncio.Event()
        self._last: dict[str, Listing] = {}  # what watches said last before they were lost

    async def publish(self, service: str, instance: Instance) -> None:
        """Refuse, see `Registry`."""
        raise ConfigError("nothing can be published in a file: whoever keeps it writes there")

    async def withdraw(self, service: str, id: str) -> None:
        """Do nothing: nothing here is ours."""

    async def list(self, service: str) -> Listing:
        """Return what the file says, or said when it could last be read."""
        check_service(service)
        return _of(await self._content(), service)

    async def watch(self, service: str) -> AsyncGenerator[Change, None]:
        """Give what the file says, and what changes in it, for as long as it can be read."""
        check_service(service)
        before = await self._readable()
        listing = _of(before, service)
        yield listing
        for id in _missing(self._last.get(service, listing), listing):
            yield Gone(id, is_explicit=True)  # taken out while nothing could be read
        while not await self._rest():
            self._last[service] = listing
            now = await self._readable()
            if now.number == before.number:
                continue
            old, listing, before = listing, _of(now, service), now
            for change in _changes(old, listing):
                yield change
        raise RegistryLost("this registry is closed")

    async def services(self) -> tuple[str, ...]:
        """Return the names of the services that have instances, sorted."""
        found = (await self._content()).services
        return tuple(sorted(name for name, listing in found.items() if listing.instances))

    async def wait_lost(self, since: int = 0) -> int:
        """Wait for ever: nothing was published."""
        return await Losses().wait(since)

    async def aclose(self) -> None:
        """Let go; twice is fine."""
        self._closed.set()

    # Inside

    async def _content(self) -> _Content:
        content, problem = await self._known()
        if content is None:
            raise RegistryLost(f"no instances: {problem}")
        return content

    async def _readable(self) -> _Content:
        """Return what the file says now: who watches shall know that it can't be read."""
        content, problem = await self._known()
        if content is None or problem:
            raise RegistryLost(f"no instances: {problem}" if content is None else problem)
        return content

    async def _known(self) -> tuple[_Content | None, str]:
        """Return what was read last, and why that can't be read now."""
        if self._closed.is_set():
            raise RegistryLost("this registry is closed")
        try:
            content = await self._look.ask(PATIENCE)
        except TimeoutError:
            return self._reader.content, "the disk hangs"  # what was read is what we know
        return content, self._reader.problem

    async def _rest(self) -> bool:
        """Wait until the next look; return whether there is none any more."""
        try:
            async with asyncio.timeout(self._every):
                await self._closed.wait()
        except TimeoutError:
            return False
        return True


def _changes(old: Listing, new: Listing) -> list[Change]:
    """Return what has changed: who is not in the file any more was taken out."""
    if old.skipped != new.skipped:
        return [new]
    known = {each.id: each for each in old.instances}
    gone: list[Change] = [Gone(id, is_explicit=True) for id in _missing(old, new)]
    return gone + [Put(each) for each in new.instances if known.get(each.id) != each]


def _missing(old: Listing, new: Listing) -> list[str]:
    """Return the ids that are not in the file any more."""
    stays = {each.id for each in new.instances}
    return [each.id for each in old.instances if each.id not in stays]


@final
class _Reader:
    """The file, as seen from a thread.

    Attributes:
        content: What it said when it could last be read, None before that.
        problem: Why it can't be read now, "" if it can.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._is_json = path.endswith(".json")
        self._read: _Stamp | None = None  # what `content` or `problem` is about
        self._seen: _Stamp | None = None
        self._waited = 0
        self.content: _Content | None = None
        self.problem = ""

    def look(self) -> _Content | None:
        """Read the file if it is another one than before, and return what is known."""
        try:
            stamp = _stamp(os.stat(self._path))
            if stamp == self._read:
                return self.content
            # Somebody may be writing: it shall look the same twice. The first look can't wait.
            if self.content is not None and stamp != self._seen and self._waited < _WAITS:
                self._seen, self._waited = stamp, self._waited + 1
                return self.content
            self._waited = 0
            services, stamp = self._load()
            number = self.content.number + 1 if self.content is not None else 1
            self.content = _Content(services, number)
            self._read = stamp
            self._told("")
        except OSError as error:
            self._read = None
            self._told(f"{self._path}: {error.strerror or error}")
        except _Unreadable as error:
            self._read = error.stamp
            self._told(f"{self._path}: {error}")
        return self.content

    def _load(self) -> tuple[Mapping[str, Listing], _Stamp]:
        # Never waits for a pipe that somebody has put there.
        with open(self._path, "rb", opener=_opener) as file:
            about = os.fstat(file.fileno())
            stamp = _stamp(about)
            if not stat.S_ISREG(about.st_mode):
                raise _Unreadable("it is no file", stamp)
            most = FILE_MAX if self._is_json else TOML_MAX
            if about.st_size > most:
                raise _Unreadable(f"{about.st_size} bytes are over {most}", stamp)
            text = file.read(most + 1)
            if _stamp(os.fstat(file.fileno())) != stamp or len(text) != about.st_size:
                raise _Unreadable("it changed while it was read", None)
        try:
            found = _parse(text, is_json=self._is_json)
        except (ValueError, RecursionError) as error:
            raise _Unreadable(str(error) or "it is nested too deep", stamp) from None
        return {name: _listing(entries) for name, entries in found.items()}, stamp

    def _told(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            log = logging.getLogger("fastrpc.cluster")
            if problem:
                kept = "what it said before stays" if self.content is not None else "no instances"
                log.warning("%s; %s", problem, kept)
            else:
                log.info("%s can be read again", self._path)


class _Unreadable(Exception):
    """A file that says nothing as a whole."""

    def __init__(self, text: str, stamp: _Stamp | None) -> None:
        super().__init__(text)
        self.stamp = stamp


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _stamp(about: os.stat_result) -> _Stamp:
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _parse(text: bytes, *, is_json: bool) -> dict[str, list[Any]]:
    """Return the entries of each service.

    Raises:
        ValueError: The file as a whole can't be read.
    """
    whole = json.loads(text) if is_json else _toml(text.decode())
    services = whole.get("services") if isinstance(whole, dict) else None
    if not isinstance(services, dict):
        raise ValueError("there is no table 'services'")
    if len(services) > SERVICES_MAX:
        raise ValueError(f"there are more than {SERVICES_MAX} services")
    for name, entries in services.items():
        check_service(name)
        if not isinstance(entries, list):
            raise ValueError(f"services.{name} is no list of instances")
        if len(entries) > INSTANCES_MAX:
            raise ValueError(f"services.{name} has more than {INSTANCES_MAX} instances")
    return services


def _toml(text: str) -> dict[str, Any]:
    """Parse *text*, unless it has keys that are absurdly deep."""
    for token in _TOKEN.finditer(text):
        if token["deep"] is not None:
            line = text.count("\n", 0, token.start()) + 1
            raise ValueError(f"line {line}: a key of more than {NAMES_MAX} names")
    return tomllib.loads(text)


def _listing(entries: list[Any]) -> Listing:
    found: dict[str, Instance] = {}
    skipped = 0
    for entry in entries:
        try:
            instance = _instance(entry)
        except (ConfigError, TypeError, AttributeError):
            skipped += 1
            continue
        if instance.id in found:
            skipped += 1
        else:
            found[instance.id] = instance
    return Listing(tuple(found.values()), skipped)


def _instance(entry: Any) -> Instance:
    if isinstance(entry, str):
        entry = {"address": entry}
    given: dict[str, Any] = {key: value for key, value in entry.items() if key in _FIELDS}
    addresses = given.pop("addresses", None)
    if addresses is None:
        addresses = [given.pop("address")] if "address" in given else []
    if not isinstance(addresses, list):
        raise ConfigError("instance: addresses must be a list")
    tags = given.pop("tags", {})
    state = _STATES.get(given.pop("state", "up"))
    first = addresses[0] if addresses and isinstance(addresses[0], str) else ""
    given.setdefault("id", id_of(first))
    return Instance(
        addresses=tuple(addresses),
        tags=tuple(sorted(tags.items())),
        state=state or _wrong(),
        **given,
    )


def _wrong() -> InstanceState:
    raise ConfigError(f"instance: state must be one of {', '.join(_STATES)}")


def _of(content: _Content, service: str) -> Listing:
    """Return the instances of a service; of the only one where none is named."""
    services = content.services
    if service == ANY_SERVICE and service not in services and services:
        if len(services) > 1:
            raise RegistryLost(f"the file has {len(services)} services: name one behind #")
        (service,) = services
    return services.get(service, Listing(()))
