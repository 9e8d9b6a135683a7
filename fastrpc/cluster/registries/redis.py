"""Keep instances in Redis: keys that have an owner and an end.

Each entry is a key of its own that Redis lets expire, with the owner's token before
the text. Beside the entries of a service stand their index (ids, by when they expire)
and a log (ids, by when they changed last). So one question tells a consumer whether
anything is new since it asked, and what.

What holds of Redis holds here: what it had not yet handed to a replica or to its disk
is lost with it, and owners state it again. Of several hosts the next one is tried when
one is down or refuses to write; Sentinel and Redis Cluster are not known here.

Rules of the room:
  * whatever is changed is changed by one script, so nobody sees half of it;
  * time is Redis's own; ours is used for nothing but waiting;
  * nothing relies on messages: who watches asks every third of the time to live, and
    reads all of it again before that is over.
"""

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from redis.exceptions import AuthenticationError, NoPermissionError

from fastrpc.cluster.instance import (
    INSTANCE_MAX,
    INSTANCES_MAX,
    Instance,
    check_service,
    decode_instance,
    encode_instance,
)
from fastrpc.cluster.registries.redislink import RedisHints, RedisLink, Script
from fastrpc.cluster.registry import Change, Gone, Listing, Losses, Put, Registry
from fastrpc.cluster.target import ClusterTarget
from fastrpc.errors import CodecError, ConfigError, RegistryLost

__all__ = ["RedisRegistry"]

#: Polls in the time that an entry outlives its owner, and looks whether ours are still there.
POLLS: Final = 3
LOOKS: Final = 6

#: Least and most seconds between polls.
SOONEST: Final = 0.25
LATEST: Final = 20.0

#: Least seconds between two polls that were asked for by hints.
HINTS_APART: Final = 0.02

#: Entries that are read in one step.
CHUNK: Final = 200

#: Longest token of an owner, and what is read of an entry at most.
_TOKEN_MAX: Final = 64
_READ_MAX: Final = _TOKEN_MAX + 1 + INSTANCE_MAX

_SPREAD: Final = 0.1

# Numbers are formatted by hand wherever they become text: Lua would round them.
_COMMON: Final = """
local function text(number) return string.format('%.0f', number) end
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)
local live = '(' .. text(now)
local function keep(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, text(ms)) end
end
-- A change is numbered by its time, but never by a number that was already used.
local function note(log, new, old, channel)
  local last = tonumber(redis.call('ZRANGE', log, -1, -1, 'WITHSCORES')[2] or 0)
  redis.call('ZREM', log, old)
  redis.call('ZADD', log, text(math.max(micros, last + 1)), new)
  redis.call('ZREMRANGEBYSCORE', log, '-inf', text(micros - 600000000))
  redis.call('ZREMRANGEBYRANK', log, 0, -20001)
  keep(log, 600000)
  redis.call('PUBLISH', channel, '')
end
local function first(key, length)
  if redis.call('TYPE', key)['ok'] ~= 'string' then return '' end
  return redis.call('GETRANGE', key, 0, length - 1)
end
"""

# entry, index, log, services; token, text, ms to live, id, service, channel
_PUBLISH: Final = Script(
    _COMMON
    + """
local ttl = tonumber(ARGV[3])
local after = ARGV[1] .. ' ' .. ARGV[2]
local before = first(KEYS[1], #after + 1)
local until_ = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[4]) or 0)
redis.call('SET', KEYS[1], after, 'PX', text(ttl))
redis.call('ZADD', KEYS[2], text(now + ttl), ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', text(now))
keep(KEYS[2], ttl)
if tonumber(redis.call('ZSCORE', KEYS[4], ARGV[5]) or 0) < now + ttl then
  redis.call('ZADD', KEYS[4], text(now + ttl), ARGV[5])
end
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', text(now))
keep(KEYS[4], ttl)
if before ~= after or until_ <= now then
  note(KEYS[3], '+' .. ARGV[4], '-' .. ARGV[4], ARGV[6])
end
"""
)

# entry, index, log, services; token, id, service, channel
_WITHDRAW: Final = Script(
    _COMMON
    + """
local mine = ARGV[1] .. ' '
if first(KEYS[1], #mine) ~= mine then return end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[2])
if redis.call('ZCOUNT', KEYS[2], live, '+inf') == 0 then
  redis.call('ZREM', KEYS[4], ARGV[3])
end
note(KEYS[3], '-' .. ARGV[2], '+' .. ARGV[2], ARGV[4])
"""
)

# index, log; last change that is known, how many were there, most ids
_LOOK: Final = Script(
    _COMMON
    + """
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2] or '0'
local count = redis.call('ZCOUNT', KEYS[1], live, '+inf')
if last == ARGV[1] and count == tonumber(ARGV[2]) then return {} end
local ids = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], live, '+inf', 'LIMIT', 0, ARGV[3])) do
  if #id <= 128 then ids[#ids + 1] = id end
end
local changes = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'LIMIT', 0, 20000)
return {last, count, table.concat(ids, ' '), table.concat(changes, ' ')}
"""
)

# entries; most bytes of each
_READ: Final = Script(
    _COMMON
    + """
local found = {}
for place, key in ipairs(KEYS) do found[place] = first(key, tonumber(ARGV[1])) end
return found
"""
)

# services; beginning and end of the key of an index, most names
_SERVICES: Final = Script(
    _COMMON
    + """
local found = {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], live, '+inf', 'LIMIT', 0, ARGV[3])) do
  if #name <= 128 and redis.call('ZCOUNT', ARGV[1] .. name .. ARGV[2], live, '+inf') > 0 then
    found[#found + 1] = name
  end
end
return table.concat(found, ' ')
"""
)


@dataclass(slots=True)
class _View:
    """What a consumer has seen of a service."""

    last: bytes = b"-1"
    count: int = -1
    read_at: float = -1e9
    found: dict[str, tuple[bytes, Instance | None]] = field(default_factory=dict)
    too_many: int = 0

    def listing(self) -> Listing:
        there = tuple(each for _, each in self.found.values() if each is not None)
        return Listing(there, skipped=len(self.found) - len(there) + self.too_many)


@final
class RedisRegistry(Registry):
    """An owner of entries in Redis.

    Args:
        target: Where it is.
        ttl: Seconds for which entries outlive a renewal.
    """

    def __init__(self, target: ClusterTarget, *, ttl: float) -> None:
        self.ttl = ttl
        self._prefix = target.prefix
        self._link = RedisLink(target)
        self._hints = RedisHints(target)
        self._token = uuid.uuid4().hex
        self._published: set[str] = set()
        self._losses = Losses()
        self._is_closed = False

    async def publish(self, service: str, instance: Instance) -> None:
        """Make it so, see `Registry`."""
        keys = self._keys(service, instance.id)
        ttl = str(round(self.ttl * 1000))
        text = encode_instance(instance)
        about = (self._token, text, ttl, instance.id, service, self._channel(service))
        try:
            await self._link.run(_PUBLISH, keys, about)
        except RegistryLost as error:
            if isinstance(error.__cause__, AuthenticationError | NoPermissionError):
                raise ConfigError(str(error)) from error
            raise
        self._published.add(keys[0])

    async def withdraw(self, service: str, id: str) -> None:
        """Take an entry of ours away, see `Registry`."""
        keys = self._keys(service, id)
        self._published.discard(keys[0])
        await self._link.run(_WITHDRAW, keys, [self._token, id, service, self._channel(service)])

    async def list(self, service: str) -> Listing:
        """Return what is there now."""
        view = _View()
        await self._look(service, view)
        return view.listing()

    async def watch(self, service: str) -> AsyncGenerator[Change, None]:
        """Give what is there, and then what changes."""
        channel = self._channel(check_service(service))
        view, woken = _View(), asyncio.Event()
        try:
            # Listening comes first: what changes while the listing is made, wakes.
            await self._hints.add(channel, woken)
            await self._look(service, view)
            yield view.listing()
            while True:
                await self._pause(woken)
                for change in await self._look(service, view):
                    yield change
        finally:
            self._hints.discard(channel, woken)

    async def services(self) -> tuple[str, ...]:
        """Return the names of the services that have instances, sorted."""
        about = (f"{self._prefix}/", "#index", str(INSTANCES_MAX))
        names: bytes = await self._link.run(_SERVICES, [f"{self._prefix}#services"], about)
        return tuple(sorted(names.decode("utf-8", "replace").split()))

    async def wait_lost(self, since: int = 0) -> int:
        """Return when an entry of ours was found gone, or in other hands."""
        while self._losses.count <= since:
            try:
                # Of several who wait, one finds it, and all are told.
                async with asyncio.timeout(min(max(self.ttl / LOOKS, SOONEST), LATEST)):
                    return await self._losses.wait(since)
            except TimeoutError:
                pass
            try:
                lost = await self._find_lost()
            except RegistryLost:
                continue  # that nobody answers tells nothing of the entries
            if lost:
                # Each is told once; it counts again as soon as it is published.
                self._published -= lost
                self._losses.note()
        return self._losses.count

    async def aclose(self) -> None:
        """Let go of everything; entries of ours expire."""
        self._is_closed = True
        await self._hints.aclose()
        await self._link.aclose()

    def _keys(self, service: str, id: str) -> tuple[str, str, str, str]:
        base = f"{self._prefix}/{check_service(service)}"
        return f"{base}/{id}", f"{base}#index", f"{base}#log", f"{self._prefix}#services"

    def _channel(self, service: str) -> str:
        return f"{self._prefix}/{service}#hints"

    async def _pause(self, woken: asyncio.Event) -> None:
        """Wait until it is time to ask again."""
        every = min(max(self.ttl / POLLS, SOONEST), LATEST)
        try:
            async with asyncio.timeout(every * random.uniform(1 - _SPREAD, 1)):
                await woken.wait()
                # A thousand servers that start together are not a thousand questions.
                await asyncio.sleep(HINTS_APART)
        except TimeoutError:
            pass
        woken.clear()

    async def _look(self, service: str, view: _View) -> Sequence[Change]:
        """Bring *view* up to date, and return what has changed."""
        now = asyncio.get_running_loop().time()
        # A third of the time before it is over: the poll after this one may be late.
        is_whole = now - view.read_at >= self.ttl * (1 - 1.5 / POLLS)
        if is_whole:
            view.last, view.count, view.read_at = b"-1", -1, now
        about = (view.last, str(view.count), str(INSTANCES_MAX))
        answer = await self._link.run(_LOOK, self._keys(service, "")[1:3], about)
        if not answer:
            return []
        view.last, view.count = answer[0], answer[1]
        ids = answer[2].decode("utf-8", "replace").split()
        marks = set(answer[3].decode("utf-8", "replace").split())
        wanted = [id for id in ids if is_whole or id not in view.found or f"+{id}" in marks]
        texts = await self._read(service, wanted)
        there = {id for id in ids if id not in texts or texts[id]}
        left = [id for id in view.found if id not in there]
        gone = [id for id in left if view.found.pop(id)[1] is not None]
        view.too_many = max(view.count - len(ids), 0)
        taken = [_take(view, id, text) for id, text in texts.items() if text]
        return (
            *(Gone(id, is_explicit=f"-{id}" in marks) for id in gone),
            *(change for change in taken if change is not None),
        )

    async def _read(self, service: str, ids: Iterable[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), CHUNK):
            some = wanted[start : start + CHUNK]
            keys = [self._keys(service, id)[0] for id in some]
            texts = await self._link.run(_READ, keys, [str(_READ_MAX + 1)])
            # Who owns it is of no interest here.
            found.update(zip(some, texts, strict=True))
        return found

    async def _find_lost(self) -> set[str]:
        """Return the keys of what was published, and is not ours any more."""
        lost: set[str] = set()
        published = sorted(self._published)
        mine = f"{self._token} ".encode()
        for start in range(0, len(published), CHUNK):
            some = published[start : start + CHUNK]
            texts = await self._link.run(_READ, some, [str(len(mine))])
            lost.update(key for key, text in zip(some, texts, strict=True) if text != mine)
        # What was withdrawn meanwhile is no loss.
        return lost & self._published


def _take(view: _View, id: str, text: bytes) -> Change | None:
    """Note what an entry says, and return the change that this is, if it is one."""
    before = view.found.get(id)
    if before is not None and before[0] == text:
        return None
    try:
        instance: Instance | None = decode_instance(text.partition(b" ")[2])
    except CodecError:
        instance = None
    if instance is not None and instance.id != id:
        instance = None
    view.found[id] = (text, instance)
    known = before[1] if before is not None else None
    if instance == known:
        return None
    return Gone(id) if instance is None else Put(instance)
