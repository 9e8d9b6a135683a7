"""Run a server until a signal says stop: the blocking way in."""

import asyncio
import contextlib
import signal
import sys
from typing import Any

from fastrpc.errors import ConfigError
from fastrpc.server.server import Server

if sys.platform != "win32" and sys.implementation.name == "cpython":
    from uvloop import new_event_loop
else:
    from asyncio import new_event_loop


def run(server: Server, *targets: str, workers: int = 1, grace: float = 30.0) -> None:
    """Serve at *targets* until SIGTERM or SIGINT, then drain and return.

    A second signal stops at once. Uses uvloop where it exists.

    Args:
        server: What to serve.
        targets: Where to listen.
        workers: Processes; this version runs one.
        grace: Seconds that calls in flight get after the signal.

    Raises:
        TransportError: An address can't be had.
        ConfigError: *workers* is not 1, or there is no target.
    """
    if workers != 1:
        raise ConfigError(f"workers must be 1 in this version, got {workers}")
    if not targets:
        raise ConfigError("there is no target to listen at, such as tcp://127.0.0.1:7000")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(server, targets, grace))


async def _serve(server: Server, targets: tuple[str, ...], grace: float) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    at_once = asyncio.Event()

    def on_signal() -> None:
        (at_once if stop.is_set() else stop).set()

    signals = (signal.SIGTERM, signal.SIGINT)
    with contextlib.ExitStack() as stack:
        for number in signals:
            # Not in a thread, and not on Windows: then the caller stops us.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, on_signal)
                stack.callback(loop.remove_signal_handler, number)
        await server.start(*targets)
        await stop.wait()
        closing: asyncio.Task[Any] = asyncio.ensure_future(server.aclose(grace))
        hurry = asyncio.ensure_future(at_once.wait())
        try:
            await asyncio.wait((closing, hurry), return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurry.cancel()
        if not closing.done():
            closing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await closing
