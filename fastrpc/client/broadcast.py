"""Send one call to several instances at once, and gather what comes back.

Who they are, and how each is reached, the client knows: a `Recipient` is one of them. What
is here is the same for one server and for a cluster: single calls side by side, their
results as they come, and the modes of `broadcast`, which say what is made of them.

Rules of the room:
  * a result says whose it is, and so does an error;
  * whoever is not waited for any more is told at once, and nothing is left running: not
    when the caller is cancelled, not when an iterator is dropped;
  * the tasks know the inbox and not the iterator, so that it can be dropped.
"""

import asyncio
import contextlib
import copy
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, Self, cast, final

from fastrpc.call import Mode
from fastrpc.errors import Cancelled, ConfigError, FastRPCError, Internal, Ran
from fastrpc.frame import BoundCall, ClusterCall
from fastrpc.session.origin import Decode
from fastrpc.session.stub import Bound

__all__ = [
    "BroadcastFailed",
    "BroadcastMode",
    "InstanceResult",
    "InstanceResults",
    "Recipient",
    "Sending",
    "check_mode",
    "conclude",
    "enough",
    "named",
    "settle",
]

#: What is made of the results of a broadcast; see `View.options` of a client.
BroadcastMode = Literal["one", "all", "quorum", "first"] | int | Callable[[Mapping[str, Any]], Any]

MODES: Final = ("one", "all", "quorum", "first")

#: Errors that the message of a group tells; the others are counted.
TOLD_MAX: Final = 3


class BroadcastFailed(FastRPCError, ExceptionGroup[Exception]):
    """Of the instances that were called, too many failed: one error for each of them.

    Args:
        message: What happened, in words.
        exceptions: Of each instance that failed; a note says which it was.
        ids: Whose they are, in the same order.
        results: What the others gave, by id of the instance.

    Attributes:
        ids: As given.
        results: As given.
    """

    def __new__(
        cls, message: str, exceptions: Sequence[Exception], *args: Any, **kwargs: Any
    ) -> Self:
        """Make the group; what else is given is for `__init__`."""
        return super().__new__(cls, message, exceptions)

    def __init__(
        self,
        message: str,
        exceptions: Sequence[Exception],
        ids: Iterable[str] = (),
        results: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, exceptions)
        self.ids = tuple(ids)
        self.results = dict(results or {})
        self.ran: Ran = "maybe"
        if not self.results and all(map(_did_not_run, exceptions)):
            self.ran = "no"

    @property
    def errors(self) -> dict[str, Exception]:
        """The errors, by id of the instance."""
        return dict(zip(self.ids, self.exceptions, strict=False))

    def derive(self, excs: Sequence[Exception], /) -> "BroadcastFailed":  # type: ignore[override]
        """Return a group of some of the errors, with all the results."""
        whose = {id(error): name for name, error in self.errors.items()}
        ids = [whose.get(id(error), "") for error in excs]
        group = BroadcastFailed(self.message, excs, ids, self.results)
        group.ran = self.ran
        return group


@final
@dataclass(frozen=True, slots=True)
class InstanceResult:
    """What one instance gave.

    Attributes:
        id: Which instance: its id in the registry; of a single server its target.
        value: What came,
        error: or why nothing did.
    """

    id: str
    value: Any = None
    error: Exception | None = None


class Recipient(ABC):
    """One instance that gets a call of its own.

    Attributes:
        id: What results say it is.
    """

    id: str

    @abstractmethod
    async def call(
        self,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        decode: Decode | None,
        deadline: float,
    ) -> Any:
        """Make the call and return its value; cancelled, tell the instance.

        Args:
            name: Full method name.
            args: Positional arguments.
            kwargs: Arguments by name.
            decode: Decoder of the result, None for the connection's own.
            deadline: Of all calls together, on the monotonic clock, 0 for none.
        """


#: Calls that are about to leave: to whom, and what starts it.
Sending = Sequence[tuple[Recipient, Callable[[], Awaitable[Any]]]]


@final
class _Inbox:
    """What has come and was not taken yet."""

    __slots__ = ("came", "is_closed", "left", "waiter")

    def __init__(self, left: int) -> None:
        self.left = left
        self.came: deque[InstanceResult] = deque()
        self.waiter: asyncio.Future[None] | None = None
        self.is_closed = False

    def ended(self, id: str, task: "asyncio.Task[InstanceResult]") -> None:
        """Take what came of one call."""
        self.left -= 1
        if task.cancelled():  # by somebody in the call's own way, unless everything ends here
            error = Cancelled("the call was cancelled here", ran="maybe")
            self.came.append(InstanceResult(id, error=error))
        elif (fault := task.exception()) is not None:  # no Exception, or `_run` had it
            text = f"{type(fault).__name__}: {fault}"
            self.came.append(InstanceResult(id, error=Internal(text, ran="maybe")))
        else:
            self.came.append(task.result())
        if self.is_closed:
            self.came.clear()
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def take(self) -> InstanceResult | None:
        """Return what comes next, None if nothing will."""
        while not self.came:
            if not self.left or self.is_closed:
                return None
            self.waiter = asyncio.get_running_loop().create_future()
            try:
                await self.waiter
            finally:
                self.waiter = None
        return self.came.popleft()


@final
class InstanceResults(AsyncIterator[InstanceResult]):
    """What each instance gives, as it comes. Made by `client.broadcast_each`.

    The calls leave together when it is first iterated over, or entered with `async with`.
    Leaving early, by `break` or an error, cancels those that have not ended; leaving
    `async with` also waits until they have. One task at a time may iterate.

    Attributes:
        ids: Which instances were called, once the calls have left.
    """

    def __init__(self, begin: Callable[[], Awaitable[Sending]]) -> None:
        self._begin: Callable[[], Awaitable[Sending]] | None = begin
        self._tasks: list[asyncio.Task[InstanceResult]] = []
        self._inbox = _Inbox(0)
        self._is_awaited = False
        self.ids: tuple[str, ...] = ()

    def __del__(self) -> None:
        """Cancel what runs: nobody can want it any more.

        It is collected in any thread, and between any two lines of the loop's.
        """
        for task in self._tasks:
            if not task.done():
                with contextlib.suppress(RuntimeError):  # the loop is closed: nothing runs there
                    task.get_loop().call_soon_threadsafe(task.cancel)

    def __aiter__(self) -> "InstanceResults":
        """Return itself: each result comes once."""
        return self

    async def __anext__(self) -> InstanceResult:
        """Wait for the next result.

        Raises:
            Unavailable: No instance is listed.
            DeadlineExceeded: The time was up before any could be called.
        """
        if self._is_awaited:
            raise ConfigError("another task waits for the next result already")
        self._is_awaited = True
        try:
            await self._open()
            result = await self._inbox.take()
        except BaseException:
            self._cancel()
            raise
        finally:
            self._is_awaited = False
        if result is None:
            raise StopAsyncIteration
        return result

    async def __aenter__(self) -> "InstanceResults":
        """Let the calls leave.

        Raises:
            Unavailable: No instance is listed.
            DeadlineExceeded: The time was up before any could be called.
        """
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel what has not ended."""
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the calls that have not ended, and wait until they have. Twice is fine."""
        self._cancel()
        running = [task for task in self._tasks if not task.done()]
        if running:
            await asyncio.wait(running)
        self._tasks.clear()  # an error that is raised now must not find itself in here

    async def _open(self) -> None:
        begin, self._begin = self._begin, None
        if begin is None:
            return
        sending = await begin()
        if self._inbox.is_closed:  # meanwhile, by somebody else
            return
        self.ids = tuple(recipient.id for recipient, _ in sending)
        inbox = self._inbox = _Inbox(len(sending))
        loop = asyncio.get_running_loop()
        for recipient, start in sending:
            task = loop.create_task(_run(recipient, start))
            task.add_done_callback(partial(inbox.ended, recipient.id))
            self._tasks.append(task)

    def _cancel(self) -> None:
        self._begin = None
        self._inbox.is_closed = True
        self._inbox.came.clear()
        for task in self._tasks:
            if not task.done() and not task.get_loop().is_closed():
                task.cancel()


async def _run(recipient: Recipient, start: Callable[[], Awaitable[Any]]) -> InstanceResult:
    try:
        return InstanceResult(recipient.id, await start())
    except Exception as exc:
        exc.add_note(f"instance {recipient}")
        return InstanceResult(recipient.id, error=exc)


def check_mode(mode: object) -> BroadcastMode:
    """Return *mode* if it is one of `broadcast`.

    Raises:
        ConfigError: It is not.
    """
    is_count = isinstance(mode, int) and not isinstance(mode, bool) and mode > 0
    if not (is_count or callable(mode) or (isinstance(mode, str) and mode in MODES)):
        raise ConfigError(
            f"broadcast must be one of {', '.join(MODES)}, a number of instances above 0, or a"
            f" function that merges results; got {mode!r}"
        )
    return cast("BroadcastMode", mode)


def enough(mode: BroadcastMode, count: int) -> int:
    """Return how many of *count* instances have to give a result."""
    if isinstance(mode, int):
        return mode
    if mode == "quorum":
        return count // 2 + 1
    return 1 if mode == "first" else count


def named(method: object) -> tuple[str, Decode | None]:
    """Return name and decoder of a method, given by its name or as a method of a stub.

    Raises:
        ConfigError: It is neither, or one with a stream.
    """
    if isinstance(method, str):
        return method, None
    if isinstance(method, BoundCall | ClusterCall):
        return method.method, method.decode
    bound = getattr(method, "bound", None)
    if not isinstance(bound, Bound):
        wants = "a name such as 'Arith.add' or a method of a stub"
        raise ConfigError(f"expected {wants}, got {method!r}")
    if bound.info.mode is Mode.STREAM:
        raise ConfigError(f"{bound.key} has a stream: call each instance by itself")
    return bound.key, bound.decode


def failed(
    name: str, errors: Mapping[str, Exception], results: Mapping[str, Any], asked: int
) -> tuple[str, list[Exception], list[str]]:
    """Return message, errors and ids for the group of a call of *name* to *asked* instances."""
    told = [f"{id}: {type(error).__name__}: {error}" for id, error in errors.items()]
    text = "; ".join(told[:TOLD_MAX])
    if len(told) > TOLD_MAX:
        text += f"; and {len(told) - TOLD_MAX} more"
    return f"{name}: {len(told)} of {asked} failed: {text}", [*errors.values()], [*errors]


async def settle(name: str, mode: BroadcastMode, results: InstanceResults) -> Any:
    """Let the calls of a broadcast leave, and return what *mode* makes of their results.

    Raises:
        BroadcastFailed: Fewer are well than the mode needs.
        Exception: In mode "one", the error that came first.
    """
    values, errors = await _collect(mode, results)
    return conclude(name, mode, results.ids, values, errors)


def conclude(
    name: str,
    mode: BroadcastMode,
    ids: Sequence[str],
    values: dict[str, Any],
    errors: dict[str, Exception],
) -> Any:
    """Return what *mode* makes of what came from the instances *ids*.

    Raises:
        BroadcastFailed: Fewer are well than the mode needs.
        Exception: In mode "one", the error; its `ran` speaks for all instances.
    """
    # No local variable may keep what is raised: that would be a circle with its traceback.
    is_sure = not values and len(errors) == len(ids) and all(map(_did_not_run, errors.values()))
    if mode == "one" and errors:
        raise errors.popitem()[1] if is_sure else _maybe(errors.popitem()[1])
    if len(values) < enough(mode, len(ids)):
        raise _group(name, errors, values, len(ids))
    if mode in ("one", "first"):
        return next(iter(values.values()))
    in_order = {id: values[id] for id in ids if id in values}
    return mode(in_order) if callable(mode) else in_order


def _group(
    name: str, errors: Mapping[str, Exception], values: Mapping[str, Any], asked: int
) -> BroadcastFailed:
    text, excs, whose = failed(name, errors, values, asked)
    group = BroadcastFailed(text, excs, whose, values)
    if len(values) + len(errors) < asked:  # who was cancelled may have run it
        group.ran = "maybe"
    return group


def _did_not_run(error: Exception) -> bool:
    return getattr(error, "ran", "maybe") == "no"


def _maybe(error: Exception) -> Exception:
    """Return *error* as it is when other instances may have run the call."""
    if not isinstance(error, FastRPCError) or error.ran != "no":
        return error
    other = copy.copy(error).with_traceback(error.__traceback__)
    other.__cause__ = error.__cause__
    other.ran = "maybe"
    return other


async def _collect(
    mode: BroadcastMode, results: InstanceResults
) -> tuple[dict[str, Any], dict[str, Exception]]:
    """Return values and errors by instance, as many as it takes to know the outcome."""
    values: dict[str, Any] = {}
    errors: dict[str, Exception] = {}
    async with results:
        count = len(results.ids)
        wanted = enough(mode, count)
        tells_all = mode == "all" or callable(mode)
        async for each in results:
            if each.error is None:
                values[each.id] = each.value
            else:
                errors[each.id] = each.error
            if len(values) == wanted or (len(errors) > count - wanted and not tells_all):
                break
    return values, errors
