"""Run a server until a signal says stop: the blocking way in.

asyncio.Runner is not used: on its way out it waits without end for tasks that
don't let themselves be cancelled, and one such handler would keep the process.
"""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final

from fastrpc.errors import ConfigError
from fastrpc.server.server import Server
from fastrpc.transport import Plain, TlsOptions

_PATIENCE: Final = 0.2  # for tasks that were cancelled because the loop ends


def run(
    server: Server,
    *targets: str,
    workers: int = 1,
    grace: float = 30.0,
    ready: Callable[[list[str]], object] | None = None,
    doors: Iterable[str] | None = None,
    tls: TlsOptions | None = None,
    plain: Plain | None = None,
) -> None:
    """Serve at *targets* until SIGTERM or SIGINT, then drain and return.

    A second signal stops at once. Uses uvloop where it exists.

    Args:
        server: What to serve.
        targets: Where to listen.
        workers: Processes; this version runs one.
        grace: Seconds that calls in flight get after the signal.
        ready: Called with the real addresses once the server listens.
        doors: What is spoken there, see `Server.start`.
        tls: Certificate of the listeners.
        plain: With *tls*: "allow" lets unencrypted connections in, too.

    Raises:
        TransportError: An address can't be had.
        ConfigError: *workers* is not 1, there is no target, or a target, a door or a
            certificate can't be used, or *plain* has no certificate beside it.
    """
    if workers != 1:
        raise ConfigError(f"workers must be 1 in this version, got {workers}")
    if not targets:
        raise ConfigError("there is no target to listen at, such as tcp://127.0.0.1:7000")
    loop = _new_loop()
    try:
        start = partial(server.start, *targets, doors=doors, tls=tls, plain=plain)
        loop.run_until_complete(_serve(server, start, grace, ready))
    finally:
        _leave(loop)


async def _serve(
    server: Server,
    start: Callable[[], Awaitable[None]],
    grace: float,
    ready: Callable[[list[str]], object] | None,
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    at_once = asyncio.Event()

    def on_signal() -> None:
        (at_once if stop.is_set() else stop).set()

    with contextlib.ExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            # Not in a thread, and not on Windows: then the caller stops us.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, on_signal)
                stack.callback(loop.remove_signal_handler, number)
        try:
            await start()
            if ready is not None:
                ready(server.targets)
            ended = asyncio.ensure_future(server.serve_forever())  # somebody else may close it
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait((stopping, ended), return_when=asyncio.FIRST_COMPLETED)
            closing = asyncio.ensure_future(server.aclose(grace))
            hurry = asyncio.ensure_future(at_once.wait())
            await asyncio.wait((closing, hurry), return_when=asyncio.FIRST_COMPLETED)
            closing.cancel()  # too late if it is done
            for waiting in (stopping, ended, hurry):
                waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await closing
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
