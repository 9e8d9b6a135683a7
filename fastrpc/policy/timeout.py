"""Give calls a deadline, or a nearer one: for servers and for clients.

Both only set the deadline of the call. Keeping to it is what the session does, with
every deadline alike: it stops the handler, or gives up the call, and says so.

Rules of the room:
  * a deadline is only ever brought nearer.
"""

import time

from fastrpc.call import Call, Handler, Interceptor, Reply
from fastrpc.errors import ConfigError
from fastrpc.policy.ending import Clock


def max_timeout(seconds: float, *, clock: Clock = time.monotonic) -> Interceptor:
    """Return an interceptor that lets no call run longer, whatever its caller asked.

    Args:
        seconds: From when the call comes to this interceptor, the items of a stream
            included.
        clock: The clock of deadlines.

    Raises:
        ConfigError: *seconds* is not above 0 and finite.
    """
    _check(seconds)

    def limited(handler: Handler) -> Handler:
        async def limit(call: Call) -> Reply:
            latest = clock() + seconds
            if not 0.0 < call.deadline <= latest:
                call.deadline = latest
            return await handler(call)

        return limit

    return limited


def default_timeout(seconds: float, *, clock: Clock = time.monotonic) -> Interceptor:
    """Return an interceptor that gives calls without a deadline one.

    Args:
        seconds: From when the call comes to this interceptor.
        clock: The clock of deadlines.

    Raises:
        ConfigError: *seconds* is not above 0 and finite.
    """
    _check(seconds)

    def limited(handler: Handler) -> Handler:
        async def limit(call: Call) -> Reply:
            if not call.deadline:
                call.deadline = clock() + seconds
            return await handler(call)

        return limit

    return limited


def _check(seconds: float) -> None:
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"seconds must be above 0 and finite, got {seconds!r}")
