"""Give a coroutine its first step at once, and a task only if it waits for something.

A task costs more than most handlers behind interceptors. From Python 3.12 on there
are eager tasks, which cost little if the coroutine ends in its first step; before,
this is in their place. The first step runs in the name of a task that is there
already and has nothing to do: whoever asks for the current task (asyncio.timeout,
TaskGroup) gets one that is real. If the coroutine waits, that task goes on with it,
and another is kept for the next.

Rules of the room:
  * a coroutine has a context of its own, and one task for all of its steps;
  * a task that was handed a coroutine, or was cancelled, is never used again;
  * a cancellation is never lost, whenever it comes.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from types import coroutine
from typing import Any, final

from fastrpc.call import Call, checked

__all__ = ["FirstSteps", "Rest"]


@final
class Rest:
    """A chain that waits after its first step: awaited, it goes on and gives the reply.

    Args:
        coroutine: It.
        waited: What it waits for.
        context: Where it runs.
        spare: The task that goes on with it.
        call: What it is about.
    """

    __slots__ = ("_context", "_coroutine", "_spare", "_waited", "call", "is_cancelled")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        waited: Any,
        context: Context,
        spare: "_Spare",
        call: Call,
    ) -> None:
        self._coroutine = coroutine
        self._waited = waited
        self._context = context
        self._spare = spare
        self.call = call
        self.is_cancelled = False  # before anybody has awaited it

    def go_on(self, whole: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Let the task run *whole*, which awaits this, and return it."""
        return self._spare.go_on(self, whole)

    def __await__(self) -> Generator[Any, Any, Any]:
        """Go on to the end and return the result."""
        run, coroutine, waited = self._context.run, self._coroutine, self._waited
        step: Callable[[Any], Any] = coroutine.throw
        given: Any = asyncio.CancelledError()
        # As the task would have, had it waited itself: what can't be cancelled is not waited for.
        waits = not self.is_cancelled or (asyncio.isfuture(waited) and waited.cancel())
        while True:
            if waits:
                try:
                    step, given = coroutine.send, (yield waited)
                except GeneratorExit:
                    run(coroutine.close)
                    raise
                except BaseException as error:
                    step, given = coroutine.throw, error
            try:
                waited = run(step, given)
            except StopIteration as stop:
                return checked(stop.value, self.call.method)
            finally:
                del given  # an error would hold this frame, and the frame the error
            waits = True


@final
class _Spare:
    """A task that waits until it is needed."""

    __slots__ = ("_rest", "_whole", "needed", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.needed: asyncio.Future[None] = loop.create_future()
        self._rest: Rest | None = None
        self._whole: Coroutine[Any, Any, None] | None = None
        waiting = self._run()
        waiting.send(None)  # else a task cancelled in this turn would never come to its `try`
        self.task = loop.create_task(waiting)

    def go_on(self, rest: Rest, whole: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        self._rest, self._whole = rest, whole
        if not self.needed.done():  # the first step itself may have cancelled its task
            self.needed.set_result(None)
        return self.task

    async def _run(self) -> None:
        try:
            await _begun()
            await self.needed
        except asyncio.CancelledError:
            if self._rest is None:
                raise
            self._rest.is_cancelled = True
        assert self._whole is not None
        await self._whole


@coroutine
def _begun() -> Generator[None, None, None]:
    yield


@final
class FirstSteps:
    """Keeps a task that has nothing to do, for the first steps of `Through`.

    Args:
        loop: Where they run.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._spare: _Spare | None = None

    def task(self) -> "asyncio.Task[None]":
        """Return the task in whose name the next step runs."""
        spare = self._spare
        if spare is not None:
            task = spare.task
            # Somebody may have cancelled it in a first step, and even taken that back.
            if not (task.cancelling() or spare.needed.done() or task.done()):
                return task
        self._spare = spare = _Spare(self.loop)
        return spare.task

    def keep(
        self, coroutine: Coroutine[Any, Any, Any], waited: Any, context: Context, call: Call
    ) -> Rest:
        """Return the rest of a coroutine that waits after its first step."""
        spare, self._spare = self._spare, None
        assert spare is not None
        return Rest(coroutine, waited, context, spare, call)

    def close(self) -> "set[asyncio.Task[None]]":
        """Cancel the task that has nothing to do; return it."""
        if self._spare is None:
            return set()
        spare, self._spare = self._spare, None
        spare.task.cancel()
        return {spare.task}
