"""Ask something that may block, in a thread of its own, once for all who want to know.

The event loop's own threads are few, and others wait for them: a resolver that hangs
must not take them. So each question has a thread, and there is one question at a time;
who asks while it is open waits for its answer. A thread that never comes back is one
thread, and doesn't keep the process from ending.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar, final

__all__ = ["Aside"]

T = TypeVar("T")


@final
class Aside(Generic[T]):
    """One question that blocks.

    Args:
        question: What to ask; runs in a thread.
        name: Of the thread.
    """

    def __init__(self, question: Callable[[], T], name: str) -> None:
        self._question = question
        self._name = name
        self._open: asyncio.Future[T] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is no answer yet."""
        return self._open is not None

    async def ask(self, patience: float) -> T:
        """Return the answer to the question that is open, or to a new one.

        Args:
            patience: Seconds to wait; the question stays open after that.

        Raises:
            TimeoutError: There is no answer in time.
            Exception: What the question raises.
        """
        if self._open is None:
            loop = asyncio.get_running_loop()
            self._open = loop.create_future()
            thread = threading.Thread(
                target=self._run, args=(loop, self._open), name=self._name, daemon=True
            )
            thread.start()
        async with asyncio.timeout(patience):
            return await asyncio.shield(self._open)

    def _run(self, loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[T]") -> None:
        found: T | None = None
        failure: Exception | None = None
        try:
            found = self._question()
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know
            loop.call_soon_threadsafe(self._answered, answer, found, failure)

    def _answered(self, answer: "asyncio.Future[T]", found: Any, failure: Exception | None) -> None:
        self._open = None
        if answer.cancelled():
            return
        if failure is None:
            answer.set_result(found)
        else:
            answer.set_exception(failure)
            answer.exception()  # perhaps nobody waits any more
