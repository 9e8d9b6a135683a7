"""Keep instances in etcd: under leases, watched from the revision where they were listed.

An owner has one lease, and an entry is its own as long as it hangs on that lease. So each
question of an owner is one that etcd answers by itself: hangs it on mine, and says this?
Else it is written anew. A lease that is gone is told by an answer without a time, by "not
found", or by silence; all come to the same: another lease.

Keys are /prefix/service/id, values what every registry keeps.

Rules of the room:
  * nothing is believed of a lease for longer than etcd has said;
  * a write whose answer was lost may still arrive: the lease it carries is given up
    when its entry is taken back;
  * one statement is over before the next is due.
"""

import asyncio
import math
import ssl
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, Final, final

import msgspec

from fastrpc.cluster.instance import Instance, encode_instance
from fastrpc.cluster.registries.etcd_gateway import NOT_FOUND, Gateway, Refusal
from fastrpc.cluster.registries.etcd_reader import Range, Reader
from fastrpc.cluster.registry import Change, Listing, Losses, Registry
from fastrpc.cluster.target import ClusterTarget
from fastrpc.errors import RegistryLost

__all__ = ["EtcdRegistry"]

#: Least and most seconds for one statement; a third of the lease between.
_PATIENCE_MIN: Final = 0.6
_PATIENCE_MAX: Final = 5.0

#: Longest silence before a watch asks whether it would be told.
_QUIET_MAX: Final = 10.0

#: Leases that may be gone while one statement is made.
_TURNS: Final = 4

#: Leases that are remembered as ours.
_MINE: Final = 8


class _Lease(msgspec.Struct, frozen=True):
    ID: int = 0
    TTL: int = 0


class _Renewal(msgspec.Struct, frozen=True):
    result: _Lease = _Lease()


class _Done(msgspec.Struct, frozen=True):
    succeeded: bool = False


@final
class _Held:
    """A lease of ours, and what hangs on it."""

    def __init__(self, id: int, ttl: float, asked: float) -> None:
        self.id = id
        self.ttl = ttl
        self.asked = asked  # when the last renewal that was granted began
        self.keys: set[bytes] = set()
        self.unsure: set[bytes] = set()  # written, perhaps, or to be written yet
        self.is_silent = False


@final
class EtcdRegistry(Registry):
    """An owner of entries in etcd.

    Args:
        target: Where etcd is; several hosts are those of one cluster.
        ttl: Seconds for which entries outlive their owner; etcd may grant more.
        tls: How to encrypt, for a secure target; by default as the system trusts.

    Attributes:
        ttl: As granted, once that is known.
    """

    def __init__(
        self, target: ClusterTarget, *, ttl: float, tls: ssl.SSLContext | None = None
    ) -> None:
        self._asked_ttl = math.ceil(ttl)
        self.ttl = float(self._asked_ttl)
        self._patience = min(max(self.ttl / 3, _PATIENCE_MIN), _PATIENCE_MAX)
        self._gateway = Gateway(target, self._patience, tls)
        self._reader = Reader(self._gateway, target.prefix, min(self.ttl / 2, _QUIET_MAX))
        self._held: _Held | None = None
        self._mine: deque[int] = deque(maxlen=_MINE)
        self._lock = asyncio.Lock()
        self._losses = Losses()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def lease(self) -> int:
        """Number of the lease that entries hang on; 0 if there is none."""
        return self._held.id if self._held is not None else 0

    async def publish(self, service: str, instance: Instance) -> None:
        """Make it so, see `Registry`."""
        key, value = self._reader.key(service, instance.id), encode_instance(instance)
        began = _now()
        try:
            async with asyncio.timeout(self._patience):
                for _ in range(_TURNS):
                    held = await self._lease(began)
                    if await self._put(held, key, value):
                        return
                    self._forget(held)
        except TimeoutError:
            raise RegistryLost(f"etcd: no time for {instance.id}") from None
        raise RegistryLost(f"etcd: leases are lost as soon as they are granted, {instance.id}")

    async def withdraw(self, service: str, id: str) -> None:
        """Take an entry of ours away, see `Registry`."""
        key = self._reader.key(service, id)
        held = self._held
        if held is not None:
            held.keys.discard(key)
            if not held.keys:
                # The last takes the lease with it, and so whatever may arrive late.
                self._forget(held, is_lost=False)
                answer = await self._gateway.ask("lease/revoke", {"ID": held.id}, _Done)
                if not isinstance(answer, Refusal):
                    return
                if answer.code != NOT_FOUND:
                    raise _refused(answer)
            elif key in held.unsure:
                # It may arrive behind the deletion: nobody renews it then. The other entries
                # move to the next lease.
                self._forget(held)
        await self._delete(key)

    async def list(self, service: str) -> Listing:
        """Return what is there now."""
        return await self._reader.list(service)

    def watch(self, service: str) -> AsyncGenerator[Change, None]:
        """Give what is there, and then what changes, see `Registry`."""
        return self._reader.watch(service)

    async def services(self) -> tuple[str, ...]:
        """Return the names of the services that have instances, sorted."""
        return await self._reader.services()

    async def wait_lost(self, since: int = 0) -> int:
        """Return when the lease is gone, or nothing was heard of it for half its time."""
        return await self._losses.wait(since)

    async def aclose(self) -> None:
        """Let go of everything; entries of ours expire."""
        self._is_closed = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._gateway.aclose()

    async def _lease(self, began: float) -> _Held:
        """Return the lease, renewed since *began*: what hangs on it has its whole time."""
        async with self._lock:
            if self._held is not None and self._held.asked < began:
                await self._renew(self._held)
            if self._held is None:
                self._held = await self._grant()
            return self._held

    async def _grant(self) -> _Held:
        asked = _now()
        answer = await self._gateway.ask("lease/grant", {"TTL": self._asked_ttl}, _Lease)
        if isinstance(answer, Refusal):
            raise _refused(answer)
        if answer.ID == 0 or answer.TTL <= 0:
            raise RegistryLost("etcd: a lease without a number or a time")
        self._mine.append(answer.ID)
        self.ttl = float(answer.TTL)
        if (self._task is None or self._task.done()) and not self._is_closed:
            self._task = asyncio.create_task(self._keep())
            self._task.add_done_callback(self._kept)
        return _Held(answer.ID, self.ttl, asked)

    async def _renew(self, held: _Held) -> None:
        asked = _now()
        answer = await self._gateway.ask("lease/keepalive", {"ID": held.id}, _Renewal)
        if isinstance(answer, Refusal):
            if answer.code != NOT_FOUND:
                raise _refused(answer)
            self._forget(held)
        elif answer.result.TTL <= 0:
            self._forget(held)  # answered with success, and is gone all the same
        else:
            held.asked, held.is_silent = asked, False
            held.ttl = self.ttl = float(answer.result.TTL)

    async def _put(self, held: _Held, key: bytes, value: bytes) -> bool:
        """Make the entry so, on this lease; return False if the lease is gone."""
        held.keys.add(key)
        unsure = self._gateway.unsure
        try:
            answer = await self._gateway.ask(
                "kv/txn",
                {
                    "compare": [
                        {"key": key, "target": "LEASE", "result": "EQUAL", "lease": held.id},
                        {"key": key, "target": "VALUE", "result": "EQUAL", "value": value},
                    ],
                    "success": [],
                    "failure": [{"request_put": {"key": key, "value": value, "lease": held.id}}],
                },
                _Done,
            )
        finally:
            if self._gateway.unsure != unsure:
                held.unsure.add(key)
        if isinstance(answer, Refusal):
            if answer.code != NOT_FOUND:
                raise _refused(answer)
            return False
        return True

    async def _delete(self, key: bytes) -> None:
        for _ in range(_TURNS):
            page = await self._gateway.ask("kv/range", {"key": key}, Range)
            if isinstance(page, Refusal):
                raise _refused(page)
            if not page.kvs or page.kvs[0].lease not in self._mine:
                return
            there: dict[str, Any] = {
                "key": key,
                "target": "MOD",
                "result": "EQUAL",
                "mod_revision": page.kvs[0].mod_revision,
            }
            delete = [{"request_delete_range": {"key": key}}]
            question = {"compare": [there], "success": delete}
            answer = await self._gateway.ask("kv/txn", question, _Done)
            if isinstance(answer, Refusal):
                raise _refused(answer)
            if answer.succeeded:
                return
        raise RegistryLost("etcd: an entry changes again and again while it is withdrawn")

    def _forget(self, held: _Held, *, is_lost: bool = True) -> None:
        """Hang nothing more on a lease, and let it end."""
        if self._held is held:
            self._held = None
            if is_lost:
                self._losses.note()

    async def _keep(self) -> None:
        """Renew the lease whenever nobody else has; tell who waits if it is lost."""
        while (held := self._held) is not None:
            await asyncio.sleep(max(held.asked + held.ttl / 3 - _now(), 0))
            if held is not self._held or _now() < held.asked + held.ttl / 3:
                continue
            try:
                async with self._lock:
                    if held is self._held:
                        await self._renew(held)
            except RegistryLost:
                if not held.is_silent and _now() >= held.asked + held.ttl / 2:
                    held.is_silent = True
                    self._losses.note()
                await asyncio.sleep(held.ttl / 12)

    def _kept(self, task: "asyncio.Task[None]") -> None:
        if self._task is task:
            self._task = None
        if not task.cancelled():
            task.result()  # none is expected, and none is hidden


def _now() -> float:
    return asyncio.get_running_loop().time()


def _refused(refusal: Refusal) -> RegistryLost:
    return RegistryLost(f"etcd refuses: {refusal.text}")
