"""Make one picture of all workers of a server: ask them, and add up what they say.

Rules of the room:
  * what was counted is told only after it was written down, so that it never falls;
  * one who does not answer is shown as silent, with what it had written down last;
  * sums of sums: what a page shows of several workers is made here and nowhere else.
"""

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fastrpc.observe.facts import Facts, MethodFacts, WorkerFacts
from fastrpc.observe.lag import LagFacts
from fastrpc.observe.watcher import (
    MOST_CALLS,
    MOST_CONNECTIONS,
    MOST_METHODS,
    coarser,
    watcher_of,
)
from fastrpc.policy.timing import percentile
from fastrpc.server.workers.ledger import add_up
from fastrpc.server.workers.siblings import Siblings, siblings_of
from fastrpc.server.workers.table import Seat, SeatState

if TYPE_CHECKING:
    from fastrpc.server.hall import Hall

#: The pages that workers ask each other for.
FACTS: Final = "/debug/rpc/facts.json"
CANCEL: Final = "/debug/rpc/cancel"

_COUNTED: Final = ("calls", "refused", "accepted", "turned_away", "bytes_in", "bytes_out")
_BUSY: Final = ("running", "connections", "unsent")


async def look_at_all(hall: "Hall", *, watches: bool = False, parts: int = 0) -> Facts:
    """Take a snapshot of a server, all of its workers together.

    Args:
        hall: Of the server.
        watches: Whether somebody goes on looking, so that the loop should be watched.
        parts: How many buckets of a histogram there are to a doubling; 0 for all.
    """
    siblings = siblings_of(hall)
    if siblings is None:
        return watcher_of(hall).look(watches=watches, parts=parts)
    answers = await siblings.ask_all(hall, FACTS, {"watches": "1"} if watches else {})
    own = _own(siblings, hall, watches=watches)
    found = [(seat, _read(answer)) for seat, answer in answers]
    counted = [
        (seat.number, count(facts) if facts is not None else siblings.counted_by(hall, seat))
        for seat, facts in found
    ]
    # Those last: who has left meanwhile is among them, and counted with them only.
    numbers, gone = siblings.counted_by_gone(hall)
    total: dict[str, Any] = {}
    for counts in (count(own), gone, *(each for n, each in counted if n not in numbers)):
        add_up(total, counts)
    found = [(seat, facts) for seat, facts in found if seat.number not in numbers]
    here = next(seat for seat in siblings.table.seats() if seat.seat == siblings.seat)
    rows = [_row(here, own, is_asked=True), *(_row(seat, facts) for seat, facts in found)]
    told = [(here.seat, own)]
    told += [(seat.seat, facts) for seat, facts in found if facts is not None]
    facts = merged(told, total, parts=parts)
    # The same whoever is asked: how long the whole has been there, and who looks after it.
    uptime = time.monotonic() - siblings.table.since
    return replace(
        facts,
        server=replace(facts.server, pid=os.getppid(), uptime=uptime),
        workers=tuple(sorted(rows, key=lambda row: row.worker)),
        workers_wanted=siblings.table.wanted,
        restarts=siblings.table.restarts,
    )


def told_to_sibling(hall: "Hall", *, watches: bool) -> bytes:
    """Return the facts of this worker alone, for another one."""
    siblings = siblings_of(hall)
    assert siblings is not None  # one of them asks
    return msgspec.json.encode(_own(siblings, hall, watches=watches))


def _own(siblings: Siblings, hall: "Hall", *, watches: bool) -> Facts:
    facts = watcher_of(hall).look(watches=watches)
    siblings.keep(hall, count(facts))
    return facts


def _read(answer: bytes | None) -> Facts | None:
    return msgspec.json.decode(answer, type=Facts) if answer is not None else None


def _row(seat: Seat, facts: Facts | None, *, is_asked: bool = False) -> WorkerFacts:
    if facts is None:
        is_new = seat.state is SeatState.STARTING
        return WorkerFacts(
            worker=seat.seat,
            pid=seat.pid,
            state="starting" if is_new else "silent",
            connections=seat.connections,
            restarts=seat.restarts,
        )
    return WorkerFacts(
        worker=seat.seat,
        pid=seat.pid,
        state=seat.state.name.lower(),
        is_asked=is_asked,
        uptime=facts.server.uptime,
        connections=facts.server.connections,
        calls=facts.server.calls,
        running=facts.server.running,
        restarts=seat.restarts,
    )


# Adding up


def count(facts: Facts) -> dict[str, Any]:
    """Return all of *facts* that only rises: names, with numbers or names behind them."""
    return {
        "server": {name: getattr(facts.server, name) for name in _COUNTED}
        | {"late_ticks": facts.lag.late_ticks},
        "methods": {
            method.name: {
                "calls": method.calls,
                "failures": method.failures,
                "timed": method.timed,
                "total": method.total,
                "buckets": {f"{lower!r} {upper!r}": n for lower, upper, n in method.buckets},
            }
            for method in facts.methods
        },
    }


def merged(told: Sequence[tuple[int, Facts]], total: Mapping[str, Any], *, parts: int) -> Facts:
    """Return the facts of several workers as those of one server.

    Args:
        told: What each has said, by its number; first the one that was asked.
        total: What all have counted, those that are gone, too.
        parts: How many buckets of a histogram there are to a doubling; 0 for all.
    """
    _, own = told[0]
    all_facts = [facts for _, facts in told]
    counted = dict(total["server"])
    late_ticks = counted.pop("late_ticks")
    busy = {name: sum(getattr(each.server, name) for each in all_facts) for name in _BUSY}
    methods = _methods(all_facts, total["methods"], parts)
    connections = [
        replace(connection, worker=worker)
        for worker, facts in told
        for connection in facts.connections
    ]
    calls = [replace(call, worker=worker) for worker, facts in told for call in facts.calls]
    calls.sort(key=lambda call: -call.age)
    cut = {name: sum(each.cut[name] for each in all_facts) for name in ("connections", "calls")}
    return Facts(
        server=replace(own.server, **counted, **busy),
        methods=tuple(methods[:MOST_METHODS]),
        connections=tuple(connections[:MOST_CONNECTIONS]),
        calls=tuple(calls[:MOST_CALLS]),
        lag=LagFacts(
            worst=_worst([each.lag.worst for each in all_facts]),
            last_tick=max(each.lag.last_tick for each in all_facts),
            worst_tick=max(each.lag.worst_tick for each in all_facts),
            late_ticks=late_ticks,
        ),
        limits=own.limits,
        cut={
            "methods": max(
                [len(methods) - MOST_METHODS, *(each.cut["methods"] for each in all_facts)]
            ),
            "connections": cut["connections"] + max(len(connections) - MOST_CONNECTIONS, 0),
            "calls": cut["calls"] + max(len(calls) - MOST_CALLS, 0),
        },
        doors=dict(sum((Counter(each.doors) for each in all_facts), Counter())),
    )


def _methods(all_facts: Sequence[Facts], total: Mapping[str, Any], parts: int) -> list[MethodFacts]:
    running: Counter[str] = Counter()
    longest: dict[str, float] = {}
    sampled: set[str] = set()
    for method in (method for facts in all_facts for method in facts.methods):
        running[method.name] += method.running
        longest[method.name] = max(longest.get(method.name, 0.0), method.max)
        if method.is_sampled:
            sampled.add(method.name)
    return [
        _method(name, counted, running[name], longest.get(name, 0.0), name in sampled, parts)
        for name, counted in total.items()
    ]


def _method(
    name: str,
    counted: Mapping[str, Any],
    running: int,
    longest: float,
    is_sampled: bool,
    parts: int,
) -> MethodFacts:
    buckets = sorted((*map(float, key.split()), n) for key, n in counted["buckets"].items())
    # Of those that are gone only the counts are left: their longest was not over its bucket.
    top = buckets[-1] if buckets else (0.0, 0.0, 0)
    longest = longest if longest >= top[0] else top[1]
    return MethodFacts(
        name=name,
        calls=counted["calls"],
        failures=dict(counted["failures"]),
        running=running,
        is_sampled=is_sampled,
        timed=counted["timed"],
        total=counted["total"],
        p50=percentile(buckets, 50, longest),
        p90=percentile(buckets, 90, longest),
        p99=percentile(buckets, 99, longest),
        max=longest,
        buckets=tuple(coarser(buckets, parts) if parts else buckets),
    )


def _worst(series: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
    """Return the worst of each second; all end now, and some began later."""
    backwards = zip_longest(*(reversed(each) for each in series), fillvalue=0.0)
    return tuple(reversed([max(second) for second in backwards]))
