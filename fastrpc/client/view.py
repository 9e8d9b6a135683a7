"""Call everybody at once, or each for its own keys: what clients have and peers have not."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, final, overload

from fastrpc.call import Pairs, encode_metadata
from fastrpc.call.deadline import within
from fastrpc.client.broadcast import (
    BroadcastMode,
    InstanceResults,
    Recipient,
    Sending,
    check_mode,
    enough,
    named,
    settle,
)
from fastrpc.client.shard import Shares, gather_shares
from fastrpc.errors import Unavailable
from fastrpc.session import KEEP, Keep, View, check_timeout
from fastrpc.session.origin import Decode

if TYPE_CHECKING:
    from fastrpc.client.client import Client

__all__ = ["ClientView"]

P = ParamSpec("P")
T = TypeVar("T")


class ClientView(View):
    """A server or a cluster to call, with certain options. Made by `options` of a client."""

    _mode: BroadcastMode = "one"

    def options(
        self,
        *,
        timeout: float | Keep | None = KEEP,
        metadata: Pairs | Keep | None = KEEP,
        key: object = KEEP,
        idempotent: bool | Keep | None = KEEP,
        broadcast: BroadcastMode | Keep = KEEP,
    ) -> "ClientView":
        """Return a view with other options; this one stays as it is.

        Args:
            timeout: Seconds each call may take, None for no deadline.
            metadata: Sent with each call, None for nothing.
            key: What consistent hashing goes by. Of one server it means nothing.
            idempotent: Whether calls may be sent again when nobody knows whether they ran;
                None for what the methods say. Of one server it means nothing: nothing is
                sent again there.
            broadcast: What `broadcast` returns. "one": any error is raised, else it is one
                of the results. "all": all results, a dict by id of the instance; if any
                failed, `BroadcastFailed`. "quorum" or a number: such a dict as soon as
                more than half, or so many, are well. "first": the first good result. A
                function: what it makes of the dict of "all".

        Raises:
            ConfigError: The timeout is not above 0, or there is no such mode.
            InvalidArgument: The metadata can't be sent.
        """
        seconds, packed = self._changed_options(timeout, metadata)
        view = ClientView(self._origin, seconds, packed)
        view._mode = self._mode if isinstance(broadcast, Keep) else check_mode(broadcast)
        return view

    @overload
    async def broadcast(self, method: str, /, *args: Any, **kwargs: Any) -> Any: ...

    @overload
    async def broadcast(
        self, method: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Any: ...

    async def broadcast(self, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call every instance at once; return one of the results, or what the mode says.

        Every listed instance that is up gets the call, those too that rest or are left
        alone for a while; one that can't be reached is an error. There is one deadline
        over all, and nothing is sent twice. Interceptors see the call to each instance. As
        soon as the outcome is certain the other calls are cancelled.

        Args:
            method: Full name, such as "Arith.add", or a method of a stub of this client,
                `stub.add`: then results are read as the annotated type.
            *args: Positional arguments.
            **kwargs: Arguments by name.

        Raises:
            Unavailable: No instance is listed, or fewer than the mode needs; nothing was
                sent.
            BroadcastFailed: Fewer are well than the mode needs.
            Exception: In mode "one", the error that came first; a note says from whom.
        """
        name, decode = named(method)
        begin = partial(self._to_all, name, args, kwargs, decode, self._mode)
        return await settle(name, self._mode, InstanceResults(begin))

    @overload
    def broadcast_each(self, method: str, /, *args: Any, **kwargs: Any) -> InstanceResults: ...

    @overload
    def broadcast_each(
        self, method: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> InstanceResults: ...

    def broadcast_each(self, method: Any, /, *args: Any, **kwargs: Any) -> InstanceResults:
        """Call every instance at once, and iterate over the results as they come.

        Args:
            method: As for `broadcast`.
            *args: Positional arguments.
            **kwargs: Arguments by name.
        """
        name, decode = named(method)
        return InstanceResults(partial(self._to_all, name, args, kwargs, decode, "one"))

    @overload
    async def shard(self, method: str, /, *args: Any, **kwargs: Any) -> Any: ...

    @overload
    async def shard(
        self, method: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    @overload
    async def shard(self, method: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    async def shard(self, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Split the first argument by key, and call each instance with the keys it owns.

        The first argument is a list of keys or a dict; the other arguments go along as they
        are. Whose a key is, consistent hashing says: as for calls with `options(key=...)` of
        a client that has `balance="consistent_hash"`. Lists come back in the order of the
        keys (a list has one item for each key), dicts and sets are united, numbers added;
        of truths it is whether all are true, of None None. Each part is a call like any
        other: it fails over to another instance if it may.

            await client.shard("Cache.set_many", {"a": 1, "b": 2})
            await client.shard("Cache.get_many", ["a", "b"])  # {"a": 1, "b": 2}

        Args:
            method: Full name, or a method of a stub of this client.
            *args: Positional arguments, the first of which is split.
            **kwargs: Arguments by name.

        Raises:
            ShardFailed: Some parts failed; it has what came, and the keys that are missing.
            InvalidArgument: The first argument is no list and no dict, or has keys that
                can't be ones.
            Unavailable: No instance is listed.
        """
        name, decode = named(method)
        shares = Shares(name, args)
        if not shares.keys:  # nobody owns nothing, but an empty answer has a kind, too
            return await self._call(name, args, kwargs, decode)
        begin = partial(self._to_owners, name, shares, kwargs, decode)
        return await gather_shares(shares, InstanceResults(begin))

    # Inside

    def _changed_options(
        self, timeout: float | Keep | None, metadata: Pairs | Keep | None
    ) -> tuple[float, bytes]:
        """Return timeout and packed metadata of a new view."""
        mine = self._caller
        seconds = mine.timeout if isinstance(timeout, Keep) else check_timeout(timeout)
        if isinstance(metadata, Keep):
            return seconds, mine.metadata
        return seconds, encode_metadata(metadata, self._origin.limits) if metadata else b""

    def _call(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        decode: Decode | None,
    ) -> Awaitable[Any]:
        """Make one call, as `call` does, whose result goes through *decode*."""
        if self._chained is not None:
            sent = self._chained.send(self._sender_for(decode), name, *args, **kwargs)
        else:
            sent = self._caller.send(name, args, kwargs, decode)
        return cast("Awaitable[Any]", sent)

    def _deadline(self) -> float:
        """Return when all that begins now has to be over, 0 for never."""
        now = time.monotonic()
        seconds = within(self._caller.timeout, now)
        return now + seconds if seconds else 0.0

    async def _to_all(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        decode: Decode | None,
        mode: BroadcastMode,
    ) -> Sending:
        """Return the calls of a broadcast."""
        deadline = self._deadline()
        everybody = await self._everybody(name, deadline)
        if (wanted := enough(mode, len(everybody))) > len(everybody):
            text = f"{name}: of {len(everybody)} instances {wanted} can't be well"
            raise Unavailable(text, method=name)
        return [
            (each, partial(each.call, name, args, kwargs, decode, deadline)) for each in everybody
        ]

    async def _to_owners(
        self, name: str, shares: Shares, kwargs: Mapping[str, Any], decode: Decode | None
    ) -> Sending:
        """Return the calls that have the keys of each instance."""
        deadline = self._deadline()
        owners = await self._owners(name, shares.keys, deadline)
        shares.give(each.id for each in owners)
        return [
            (each, partial(each.call, name, shares.arguments(id), kwargs, decode, deadline))
            for id, each in {each.id: each for each in owners}.items()
        ]

    async def _everybody(self, name: str, deadline: float) -> Sequence[Recipient]:
        """Return who gets a broadcast, at least one.

        Args:
            name: Full method name.
            deadline: Of the broadcast, on the monotonic clock, 0 for none.
        """
        return [_TheServer(self)]

    async def _owners(self, name: str, keys: Sequence[Any], deadline: float) -> Sequence[Recipient]:
        """Return whose each of *keys* is; the rest is as `_everybody` has it."""
        return [_TheServer(self)] * len(keys)


@final
class _TheServer(Recipient):
    """The one server of a client that has no others."""

    def __init__(self, view: ClientView) -> None:
        self._view = view
        self.id = cast("Client", view._origin).target

    def __str__(self) -> str:
        """Tell where it is."""
        return self.id

    async def call(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        decode: Decode | None,
        deadline: float,
    ) -> Any:
        """Make the call: the view has the same timeout, and no time has passed."""
        return await self._view._call(name, args, kwargs, decode)
