"""Call through a blocking client with certain options: its face, less the connection.

Rules of the room:
  * a call that is plain sees one Python function, `call`: each more is 2 % of it;
  * what a handler calls in its thread keeps to the deadline of the call in hand.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast, final

from fastrpc.call import Mode, Pairs, Reply
from fastrpc.call.deadline import DEADLINE, within
from fastrpc.client.blocking_face import BlockingCalls
from fastrpc.client.broadcast import (
    BroadcastMode,
    InstanceResult,
    check_mode,
    conclude,
    enough,
    named,
)
from fastrpc.client.shard import Shares, put_together
from fastrpc.errors import Unavailable
from fastrpc.session import (
    KEEP,
    BlockingSession,
    BlockingStream,
    Keep,
    check_timeout,
    exchange,
)
from fastrpc.session.blocking_stream import both_ways
from fastrpc.session.origin import Decode
from fastrpc.session.stream import Opening
from fastrpc.session.stub import Bound, make_stub, split_source
from fastrpc.session.view import split_calls

if TYPE_CHECKING:
    from fastrpc.client.blocking import DirectBlockingClient

T = TypeVar("T")

#: Name, arguments, those by name, timeout, metadata, decoder: what `at_once` takes.
CallArguments = tuple[str, tuple[Any, ...], Mapping[str, Any], float, bytes, Any]


class BlockingView(BlockingCalls):
    """A blocking client as seen with certain options. Made by `BlockingClient.options`."""

    _mode: BroadcastMode = "one"

    def __init__(self, client: "DirectBlockingClient", timeout: float, metadata: bytes) -> None:
        self._client = client
        self._timeout = timeout
        self._metadata = metadata

    def call(self, method: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call *method* and return its result."""
        session, waiter, timeout = self._client._session, None, self._timeout
        if DEADLINE.get():  # a call is in hand here; to ask costs no frame
            timeout = within(timeout, time.monotonic())
        if session is not None:
            waiter = session.at_once(method, args, kwargs, timeout, self._metadata, None)
            if waiter is not None and waiter.is_plain:
                return waiter.value
        call = (method, args, kwargs, timeout, self._metadata, None)
        return self._client.finish(session, waiter, call)

    def exchange(self, method: str, /, *args: Any, **kwargs: Any) -> Reply:
        """Call *method* and return the whole reply."""

        def act(session: BlockingSession, left: float) -> Reply:
            return exchange(session, method, args, kwargs, left, self._metadata)

        return self._client.act(method, self._timeout, act)

    def gather(self, calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Make many calls that leave together; return their results, in order."""
        wanted = split_calls(calls)
        return self._client.make_batch(wanted, self._timeout, self._metadata) if wanted else []

    def broadcast(self, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call the server; return the result, or what the mode makes of it."""
        name, mode = _named(method)[0], self._mode
        if enough(mode, 1) > 1:
            text = f"{name}: of 1 instances {enough(mode, 1)} can't be well"
            raise Unavailable(text, method=name)
        came = self._result(method, args, kwargs)
        values = {came.id: came.value} if came.error is None else {}
        errors = {came.id: came.error} if came.error is not None else {}
        id = came.id
        del came  # no local variable may keep what is raised
        return conclude(name, mode, (id,), values, errors)

    def broadcast_each(self, method: Any, /, *args: Any, **kwargs: Any) -> Iterator[InstanceResult]:
        """Call the server, and iterate over its result."""
        _named(method)  # says now what can't be called
        return (self._result(method, args, kwargs) for _ in range(1))

    def shard(self, method: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call the server, which owns all keys."""
        name, decode = _named(method)
        shares = Shares(name, args)
        if not shares.keys:
            return _Bound(self, name, decode)(*args, **kwargs)
        shares.give([self._client.target] * len(shares.keys))
        args = shares.arguments(self._client.target)
        return put_together(shares, [self._result(method, args, kwargs)], 1)

    def _result(
        self, method: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> InstanceResult:
        """Call the server; return what comes, with its name."""
        id = self._client.target
        try:
            return InstanceResult(id, _Bound(self, *_named(method))(*args, **kwargs))
        except Exception as exc:
            exc.add_note(f"instance {id}")
            return InstanceResult(id, error=exc)

    def stream(self, method: str, /, *args: Any, **kwargs: Any) -> BlockingStream[Any]:
        """Return a stream, which opens when it is first used."""
        return self._open(Opening(method=method, args=args, kwargs=kwargs))

    def notify(self, method: str, /, *args: Any, **kwargs: Any) -> None:
        """Send a oneway call."""
        session = self._client._usable(method, time.monotonic(), 0.0)
        session.notify(method, args, kwargs, self._metadata)

    def stub(
        self, service: type[T], name: str | None = None, *, version: str = "", group: str = ""
    ) -> T:
        """Return an object with the methods of *service*."""
        codec = self._client._codec
        stub = make_stub(service, name, self._bound, codec, version=version, group=group)
        return cast("T", stub)

    def options(
        self,
        *,
        timeout: float | Keep | None = KEEP,
        metadata: Pairs | Keep | None = KEEP,
        key: object = KEEP,
        idempotent: bool | Keep | None = KEEP,
        broadcast: BroadcastMode | Keep = KEEP,
    ) -> "BlockingView":
        """Return a view with other options."""
        seconds = self._timeout if isinstance(timeout, Keep) else check_timeout(timeout)
        options = self._client._options
        packed = self._metadata if isinstance(metadata, Keep) else options.pack(metadata)
        view = BlockingView(self._client, seconds, packed)
        view._mode = self._mode if isinstance(broadcast, Keep) else check_mode(broadcast)
        return view

    def _bound(self, bound: Bound) -> Any:
        """Return the callable of a stub's method."""
        if bound.info.mode is Mode.STREAM:
            return partial(call_stream, self._open, bound)
        return _Bound(self, bound.key, bound.decode)

    def _open(self, opening: Opening) -> BlockingStream[Any]:
        opener = partial(self._client.open_stream, self._timeout)
        return BlockingStream(opening, self._metadata, opener)


@final
class _Bound:
    """A method of a stub."""

    __slots__ = ("_decode", "_method", "_view")

    def __init__(self, view: BlockingView, method: str, decode: Any) -> None:
        self._view = view
        self._method = method
        self._decode = decode

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        view = self._view
        session, waiter, timeout = view._client._session, None, view._timeout
        if DEADLINE.get():
            timeout = within(timeout, time.monotonic())
        call = (self._method, args, kwargs, timeout, view._metadata, self._decode)
        if session is not None:
            waiter = session.at_once(*call)
            if waiter is not None and waiter.is_plain:
                return waiter.value
        return view._client.finish(session, waiter, call)


def _named(method: object) -> tuple[str, Decode | None]:
    """Return name and decoder of a method; see `named`."""
    return (method._method, method._decode) if isinstance(method, _Bound) else named(method)


def call_stream(
    open: Callable[[Opening], BlockingStream[Any]], bound: Bound, /, *args: Any, **kwargs: Any
) -> Any:
    """Return the items of a stub's stream, or send those that it takes and return the value."""
    info = bound.info
    if info.takes is not None and info.item is not None:
        raise both_ways(info.name)
    source: Any = None
    if info.takes is not None:
        args, kwargs, source = split_source(info, args, kwargs, Iterable)
    stream = open(
        Opening(method=bound.key, args=args, kwargs=kwargs, item=info.item, value=bound.decode)
    )
    if info.item is not None:
        return stream
    with stream:
        stream.feed(source)
        return stream.result()
