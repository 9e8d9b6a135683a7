"""Run one server on a loop of its own, until a signal says stop.

asyncio.Runner is not used: on its way out it waits without end for tasks that
don't let themselves be cancelled, and one such handler would keep the process.
"""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from fastrpc.server.server import Server

#: What ends a server that has the process to itself.
STOPS: Final = (signal.SIGTERM, signal.SIGINT)

_PATIENCE: Final = 0.2  # for tasks that were cancelled because the loop ends


def run_alone(serving: Callable[[], Awaitable[None]]) -> None:
    """Await what *serving* returns on a loop of its own, and leave nothing behind."""
    loop = _new_loop()
    try:
        loop.run_until_complete(serving())
    finally:
        _leave(loop)


async def serve_until_told(
    server: Server,
    start: Callable[[], Awaitable[None]],
    grace: float,
    ready: Callable[[], object],
    *,
    stops: Iterable[signal.Signals] = STOPS,
    leaving: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Start *server*, and drain it after a signal; a second one ends it at once.

    Args:
        server: Which.
        start: Starts it.
        grace: Seconds that calls in flight get after the signal.
        ready: Called when it serves.
        stops: The signals.
        leaving: What is to be awaited after the signal, before the server drains.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    at_once = asyncio.Event()

    def on_signal() -> None:
        (at_once if stop.is_set() else stop).set()

    async def close() -> None:
        if leaving is not None and stop.is_set():
            await leaving()
        await server.aclose(grace)

    with contextlib.ExitStack() as stack:
        for number in stops:
            # Not in a thread, and not on Windows: then the caller stops us.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, on_signal)
                stack.callback(loop.remove_signal_handler, number)
        try:
            await start()
            ready()
            ended = asyncio.ensure_future(server.serve_forever())  # somebody else may close it
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait((stopping, ended), return_when=asyncio.FIRST_COMPLETED)
            closing = asyncio.ensure_future(close())
            hurry = asyncio.ensure_future(at_once.wait())
            await asyncio.wait((closing, hurry), return_when=asyncio.FIRST_COMPLETED)
            closing.cancel()  # too late if it is done
            for waiting in (stopping, ended, hurry):
                waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await closing
            await server.aclose(0.0)  # for one that was cancelled before it came to it
        except BaseException:
            await server.aclose(0.0)  # whatever it was, nothing stays open
            raise


def _new_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32" or sys.implementation.name != "cpython":
        return asyncio.new_event_loop()
    import uvloop  # noqa: PLC0415 - only who runs a server pays for it

    return uvloop.new_event_loop()


def _leave(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what still runs, wait a moment for it, and close the loop."""
    try:
        if tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            _, stubborn = loop.run_until_complete(asyncio.wait(tasks, timeout=_PATIENCE))
            if stubborn:
                log = logging.getLogger("fastrpc.server")
                log.warning("%d tasks would not end and are left behind", len(stubborn))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
