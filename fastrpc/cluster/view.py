"""Call a cluster with certain options: the face of its client, and of its views."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from fastrpc.call import Metadata, Pairs, Reply
from fastrpc.call.deadline import DEADLINE
from fastrpc.client.broadcast import BroadcastMode, Recipient, check_mode
from fastrpc.client.view import ClientView
from fastrpc.cluster.broadcast import everybody
from fastrpc.cluster.origin import CallPlan, ClusterOrigin
from fastrpc.cluster.shard import owners
from fastrpc.frame import ClusterCall, ClusterCaller, Sender
from fastrpc.session import KEEP, Keep
from fastrpc.session.origin import Decode
from fastrpc.session.stream import Opening
from fastrpc.session.stub import Bound
from fastrpc.transport import parse_target

if TYPE_CHECKING:
    from fastrpc.cluster.client import ClusterClient

__all__ = ["ClusterView", "key_finder"]

T = TypeVar("T")


class ClusterView(ClientView):
    """A cluster to call, with certain options. Made by `options`.

    Args:
        client: Whose view it is.
        plan: What to do about calls.
        timeout: Seconds each call may take, 0 for no deadline.
        metadata: Packed metadata sent with each call.
    """

    _route: ClusterOrigin
    _client: "ClusterClient"

    def __init__(
        self, client: "ClusterClient", plan: CallPlan, timeout: float, metadata: bytes
    ) -> None:
        self._client = client
        self._route = ClusterOrigin(client, plan)
        super().__init__(self._route, timeout, metadata)

    def stub(
        self, service: type[T], name: str | None = None, *, version: str = "", group: str = ""
    ) -> T:
        """Return a stub, see `View.stub`; version and group are the client's if left out."""
        options = self._client.cluster_options
        return super().stub(
            service, name, version=version or options.version, group=group or options.group
        )

    def options(
        self,
        *,
        timeout: float | Keep | None = KEEP,
        metadata: Pairs | Keep | None = KEEP,
        key: object = KEEP,
        idempotent: bool | Keep | None = KEEP,
        broadcast: BroadcastMode | Keep = KEEP,
    ) -> "ClusterView":
        """Return a view with other options, see `ClientView.options`."""
        plan = self._route.plan
        seconds, packed = self._changed_options(timeout, metadata)
        if not isinstance(key, Keep):
            plan = replace(plan, key=key, key_of=None)
        if not isinstance(idempotent, Keep):
            plan = replace(plan, idempotent=idempotent)
        view = ClusterView(self._client, plan, seconds, packed)
        view._mode = self._mode if isinstance(broadcast, Keep) else check_mode(broadcast)
        return view

    # What the face without a loop asks

    @property
    def timeout(self) -> float:
        """Seconds each call may take, 0 for no deadline."""
        return self._caller.timeout  # type: ignore[no-any-return]

    @property
    def metadata(self) -> bytes:
        """Packed metadata sent with each call."""
        return self._caller.metadata  # type: ignore[no-any-return]

    def bind(self, bound: Bound) -> Any:
        """Return the callable of a stub's method."""
        return self._bound(bound)

    async def pick_address(self, opening: Opening) -> str:
        """Wait for an instance that takes a stream; return where it was reached."""
        route = self._route.with_key(opening.method, opening.args, opening.kwargs)
        member, *_ = await route.place(opening.method, self._deadline(), route.plan.key, (), None)
        route.unused()
        return next((str(each.target) for each in member.links if each.session), "") or str(
            parse_target(member.instance.addresses[0])
        )

    # Inside

    async def _everybody(self, name: str, deadline: float) -> Sequence[Recipient]:
        return await everybody(self._client, self._route, self._caller.metadata, name, deadline)

    async def _owners(self, name: str, keys: Sequence[Any], deadline: float) -> Sequence[Recipient]:
        metadata = self._caller.metadata
        return await owners(self._client, self._route, metadata, name, keys, deadline)

    def _caller_for(self, timeout: float, metadata: bytes) -> Any:
        route = self._route
        slow = functools.partial(route.start_waiting, timeout, metadata)
        plan, balancer = route.plan, self._client.balancer
        if plan.mode == "hedge":
            balancer = _NOBODY  # a hedged call is more than one: all go by `slow`
        found = plan.key_of
        if isinstance(wanted := self._client.cluster_options.key, str) and plan.key is None:
            found = key_finder(wanted, self._client.places, metadata)
            route.plan = plan = replace(plan, key_of=found)
        return ClusterCaller(
            balancer, slow, route.failed, plan.key, found, timeout, metadata, DEADLINE,
            time.monotonic,
        )  # fmt: skip

    def _bound(self, bound: Bound) -> Any:
        self._client.know(bound)
        return super()._bound(bound)

    def _origin_for(
        self, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> ClusterOrigin:
        return self._route.with_key(method, args, kwargs)

    def _bound_plainly(self, bound: Bound) -> Any:
        return ClusterCall(self._caller, bound.key, bound.decode)

    def _sender_for(self, decode: Decode | None) -> Sender:
        route, limits = self._route, self._route.limits
        return Sender(
            [], route.send_call, decode, lambda call: call.packed(limits), Reply, time.monotonic
        )


class _Nobody:
    """A balancer that picks nobody."""

    def pick(self, key: object, now: float, avoid: object = ()) -> None:
        """Return None."""


_NOBODY: Any = _Nobody()


def key_finder(
    wanted: str, places: Mapping[str, Mapping[str, int]], metadata: bytes
) -> Callable[..., object]:
    """Return what finds the key of a call.

    Args:
        wanted: Name or place of an argument, or a key of the metadata behind "metadata:".
        places: Of each known method, where which argument stands.
        metadata: Packed metadata of the calls.
    """
    if wanted.startswith("metadata:"):
        value = Metadata(metadata).get(wanted.removeprefix("metadata:"))
        return lambda method, args, kwargs: value
    number = int(wanted) if wanted.isdecimal() else -1

    def find(method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> object:
        if kwargs and wanted in kwargs:
            return kwargs[wanted]
        place = number if number >= 0 else places.get(method, {}).get(wanted, -1)
        return args[place] if 0 <= place < len(args) else None

    return find
