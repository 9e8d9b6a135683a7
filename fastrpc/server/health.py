"""Tell in a few numbers how a server is: what `fastrpc.health` answers.

It is for programs: balancers, `fastrpc ls`, `fastrpc top`, a check of an orchestrator. It
costs next to nothing, and is answered when nothing else is. Who watches the methods, too,
asks for them, and works out rates and percentiles from two answers. That takes some 50 us
for each method; as it is never refused, those who ask at the same time get the same answer.

Rules of the room:
  * what is told is read from what is counted anyway: nothing is measured for it;
  * keys are added, never renamed or taken away;
  * an answer has a most, whatever is served and whoever asks.
"""

import heapq
from collections import Counter
from functools import cache
from itertools import islice
from math import frexp, ldexp
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from fastrpc.frame import Durations, Method
from fastrpc.session import Answerer
from fastrpc.session.routes import failures_of
from fastrpc.wire import StatusCode

if TYPE_CHECKING:
    from fastrpc.server.overload import Overload
    from fastrpc.session import Side

HEALTH: Final = "fastrpc.health"

#: Most methods that are told of at once.
METHODS_MAX: Final = 64

#: Seconds for which what was found out about methods is told again.
FRESH: Final = 0.1

#: Buckets of durations to a doubling: a percentile is off by 6 % at most.
_PARTS: Final = 8


def health_of(
    state: str,
    most: int,
    side: "Side | None",
    answers: Answerer | None,
    overload: "Overload | None",
    methods: int = 0,
) -> dict[str, Any]:
    """Return how a server is.

    Args:
        state: Where it stands.
        most: Most calls in flight that its options allow.
        side: What its sessions share, None before the start.
        answers: Runs its handlers, None before the start.
        overload: Refuses what is too much, None if nobody does.
        methods: How many methods to tell of at most, those that were called most; 0 for
            none, and never more than `METHODS_MAX`.

    Returns:
        *state*, "serving" or "draining"; *lag*, the seconds that the event loop came late to
        its last slow tick, which is once a second; *running*, the calls in flight; *limit*,
        how many may be; *refused*, calls that were not run since the start; *overloaded*,
        whether calls are refused because the loop is too busy; *uptime*, seconds since the
        start. If asked for, *methods* by name: *calls*, which were taken; *failures*, those
        that did not end well, by status; *running*, those in flight; *times*, pairs of
        a duration and how many calls took about as long. Calls that need not wait are timed
        one in sixteen. All of it since the start, and at most `FRESH` old, as *uptime* is then.
    """
    told = {
        "state": state,
        "lag": side.ticker.lag if side is not None else 0.0,
        "running": answers.running if answers is not None else 0,
        "limit": overload.limit if overload is not None else most,
        "refused": answers.refused if answers is not None else 0,
        "overloaded": overload.budget.is_pressed if overload is not None else False,
        "uptime": side.share.clock() - side.ticker.since if side is not None else 0.0,
    }
    if methods > 0 and side is not None and answers is not None:
        told["uptime"], found = _methods(side, answers, methods)
        told["methods"] = dict(islice(found.items(), methods))
    return told


_known: WeakKeyDictionary[Answerer, tuple[float, int, dict[str, Any]]] = WeakKeyDictionary()


def _methods(side: "Side", answers: Answerer, wanted: int) -> tuple[float, dict[str, Any]]:
    """Return when this was found, in seconds since the start, and the methods called most."""
    uptime = side.share.clock() - side.ticker.since
    at, count, found = _known.get(answers, (-FRESH, 0, {}))
    if uptime - at < FRESH:
        if wanted <= count or count == METHODS_MAX:
            return at, found
        wanted = METHODS_MAX  # whoever asks for more and more gets all at the second time
    running = Counter(each.method.name for each in answers.in_flight)
    called = [
        each
        for each in (side.router or {}).values()
        if each.calls or each.shed or each.info.failures
    ]
    count = min(wanted, METHODS_MAX)
    most_called = heapq.nlargest(count, called, key=attrgetter("calls"))
    found = {each.name.decode(): _method(each, running[each.name]) for each in most_called}
    _known[answers] = uptime, count, found
    return uptime, found


def _method(method: Method, running: int) -> dict[str, Any]:
    return {
        "calls": method.calls,
        "failures": {_word(status): count for status, count in failures_of(method).items()},
        "running": running,
        "times": _times(method.times) if method.times is not None else [],
    }


def _times(times: Durations) -> list[tuple[float, int]]:
    """Return durations and how often each was seen, not as fine as they are kept."""
    found: dict[float, int] = {}
    for lower, _, count in times.buckets():
        middle = _middle(lower)
        found[middle] = found.get(middle, 0) + count
    return list(found.items())


@cache  # as many as a `Durations` has buckets; working it out anew is most of an answer's time
def _middle(lower: float) -> float:
    """Return the middle of the bucket that begins at *lower*, or has it inside."""
    fraction, exponent = frexp(lower)  # 0.5 to below 1
    return ldexp(int(fraction * 2 * _PARTS) + 0.5, exponent - 1) / _PARTS


def _word(status: int) -> str:
    try:
        return StatusCode(status).name.lower()
    except ValueError:
        return "other"
