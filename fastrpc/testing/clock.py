"""Let time pass by hand: a clock, and an event loop that leaps to its next timer.

    clock = FakeClock()
    ejection.look(..., clock())  # whatever takes a clock, or a moment
    clock.advance(5.0)

    clock.run(scenario())  # a coroutine; timeouts, retries, leases run by this clock

In `run` time stands still while anybody has something to do. When all wait it leaps to the
next timer, always with the same result. What a wait costs is the timers on the way: a call
that is open looks at its deadline many times a second, so it is minutes that take no time,
and an hour takes a second. `advance` in there is something else: the whole process was away
for so long, and finds everything late.

Rules of the room:
  * only what lives in this process is waited for: `mem://`, timers, threads of handlers and
    executors, whose work takes no time. A socket is refused, because a leap would not know
    that something is on its way;
  * `time.monotonic` is this clock's as long as its loop runs, for everybody in the process,
    and never longer. A clock that was kept as a value before (`clock=time.monotonic` as a
    default) stays real: hand this one in.
"""

import asyncio
import math
import selectors
import sys
import time
from collections.abc import Coroutine
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, Final, TypeVar, TypeVarTuple, final

from fastrpc.errors import ConfigError
from fastrpc.session import Threads

__all__ = ["FakeClock", "VirtualLoop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: More leaps than that, and a test waits for something that never comes.
LEAPS_MAX: Final = 500_000

#: Who makes a future that a thread will set which is no executor's: nothing else would tell
#: the loop that one is at work.
_BEGIN_THREADS: Final = (
    Threads.run.__code__,
    asyncio.BaseEventLoop.shutdown_default_executor.__code__,
)


@final
class FakeClock:
    """A monotonic clock in the hand.

    Call it for the moment. With `with` it is `time.monotonic` for the block, which
    `run` and loops of `new_loop` do by themselves.

    Args:
        start: Moment to begin at; a round number after the real one by default, so that
            a clock that was kept elsewhere is behind and not ahead.
    """

    def __init__(self, start: float | None = None) -> None:
        self.now = math.ceil(time.monotonic() / 1000.0) * 1000.0 if start is None else float(start)
        self._before: Any = None
        self._depth = 0

    def __repr__(self) -> str:
        """Tell the moment."""
        return f"<FakeClock {self.now:.3f}>"

    def __call__(self) -> float:
        """Return the moment, in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass at once: timers that are due go off late, as after a long pause.

        Raises:
            ConfigError: *seconds* is below 0: no monotonic clock goes back.
        """
        if not 0.0 <= seconds < math.inf:
            raise ConfigError(f"a clock is advanced by 0 seconds or more, not by {seconds!r}")
        # A timer that is due by less than the clock can tell would be leapt to for ever.
        self.now = max(self.now + seconds, math.nextafter(self.now, math.inf) if seconds else 0.0)

    def new_loop(self) -> "VirtualLoop":
        """Return an event loop that runs by this clock, as `asyncio.Runner` wants one."""
        return VirtualLoop(self)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run *main* in virtual time and return what it returns.

        Raises:
            AssertionError: It left a task behind.
            RuntimeError: All wait, and nothing will ever wake them; or a socket was opened.
        """
        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            return runner.run(_watched(main))

    def __enter__(self) -> "FakeClock":
        """Be `time.monotonic` from here on."""
        if self._depth == 0:
            if isinstance(time.monotonic, FakeClock):
                raise ConfigError("another FakeClock is in force")
            self._before, time.monotonic = time.monotonic, self
        self._depth += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give `time.monotonic` back."""
        self._depth -= 1
        if self._depth == 0:
            time.monotonic = self._before


async def _watched(main: Coroutine[Any, Any, T]) -> T:
    result = await main
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        raise AssertionError(f"tasks were left behind: {left}")
    return result


class _Selector(selectors.DefaultSelector):
    """Leaps in place of waiting."""

    loop: "VirtualLoop"
    _wakes = -1  # the loop's own way to be woken by threads

    def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
        if self._wakes not in (-1, fileobj):
            raise RuntimeError(
                "no sockets, pipes or processes in virtual time: nobody could tell whether"
                " something is on its way; use mem:// targets"
            )
        self._wakes = fileobj
        return super().register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.loop.threads:
            return super().select(None)
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing is planned")
        self.loop.leap(timeout)
        return ready


@final
class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a clock's. Made by `FakeClock.new_loop`.

    Args:
        clock: Its time.

    Attributes:
        threads: What threads are at work for.
    """

    def __init__(self, clock: FakeClock) -> None:
        selector = _Selector()
        selector.loop = self
        self.threads: set[asyncio.Future[Any]] = set()
        self._clock = clock
        self._leaps = 0
        super().__init__(selector)

    def time(self) -> float:
        """Return the clock's moment."""
        return self._clock.now

    def leap(self, seconds: float) -> None:
        """Let time pass, since nobody has anything to do."""
        self._leaps += 1
        if self._leaps > LEAPS_MAX:
            raise RuntimeError(f"after {LEAPS_MAX} leaps in time nothing has ended")
        self._clock.advance(seconds)

    def run_forever(self) -> None:
        """Run by the clock, and with it all that asks `time.monotonic`."""
        with self._clock:
            super().run_forever()

    def create_future(self) -> "asyncio.Future[Any]":
        """Return a future; one that a blocking handler's thread will set is waited for."""
        future = super().create_future()
        if sys._getframe(1).f_code in _BEGIN_THREADS:
            self._expect(future)
        return future

    def run_in_executor(
        self, executor: Executor | None, func: Any, *args: *Ts
    ) -> "asyncio.Future[Any]":
        """Run *func* in a thread; time stands still until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self._expect(future)
        return future

    def _expect(self, future: "asyncio.Future[Any]") -> None:
        self.threads.add(future)
        future.add_done_callback(self.threads.discard)
