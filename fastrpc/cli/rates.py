"""Work out what happens now from what servers have counted since their start.

Rules of the room:
  * pure: answers in, figures out; time is the server's own, so a slow way bends nothing;
  * a figure that can't be known is None, not 0;
  * who has started anew is begun with anew.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from fastrpc.cli.asking import Health, Method
from fastrpc.cluster import Instance

#: Answers that percentiles are made of; rates are made of the last two.
WINDOW: Final = 10


@final
@dataclass(frozen=True, slots=True)
class Figures:
    """What goes on: in one method, on one instance, or everywhere.

    Attributes:
        calls: Calls a second.
        errors: Calls a second that did not end well.
        running: In flight.
        times: Durations of the last few intervals, and how many calls took about as long;
            of methods that are not timed each time, how many it will have been.
    """

    calls: float = 0.0
    errors: float = 0.0
    running: int = 0
    times: Mapping[float, float] = field(default_factory=dict)

    def percentile(self, percent: float) -> float | None:
        """Return the duration that so many did not exceed; None if none was timed."""
        wanted = sum(self.times.values()) * percent / 100
        seen = 0.0
        for seconds, count in sorted(self.times.items()):
            seen += count
            if seen >= wanted:
                return seconds
        return None


@final
@dataclass(frozen=True, slots=True)
class InstanceRow:
    """One instance.

    Attributes:
        instance: As it is listed.
        health: What it said last, None if it does not answer.
        problem: Why it does not answer, or that it is late; "" if all is well.
        figures: What it does; None until it has answered twice.
    """

    instance: Instance
    health: Health | None
    problem: str
    figures: Figures | None


@final
@dataclass(frozen=True, slots=True)
class View:
    """All of it at one moment.

    Attributes:
        at: Seconds since the epoch.
        methods: By name, all instances together.
        instances: Those that are followed.
        more: How many are listed beside them.
        problem: Why the registry can't be asked, "" if it can.
    """

    at: float
    methods: Mapping[str, Figures]
    instances: Sequence[InstanceRow]
    more: int = 0
    problem: str = ""

    @property
    def total(self) -> Figures:
        """All methods together; in flight is what the instances say."""
        running = sum(each.health.running for each in self.instances if each.health is not None)
        return added(self.methods.values(), running)

    @property
    def answered(self) -> int:
        """How many instances answer."""
        return sum(each.health is not None for each in self.instances)


def added(all_figures: Iterable[Figures], running: int | None = None) -> Figures:
    """Return the sum of *all_figures*; *running* is put in the place of theirs."""
    each = list(all_figures)
    times: defaultdict[float, float] = defaultdict(float)
    for figures in each:
        for seconds, count in figures.times.items():
            times[seconds] += count
    return Figures(
        sum((figures.calls for figures in each), 0.0),
        sum((figures.errors for figures in each), 0.0),
        sum(figures.running for figures in each) if running is None else running,
        times,
    )


@final
class History:
    """The last answers of one instance.

    Args:
        asked: How many methods it was asked about: if it told of so many, there are more.
    """

    def __init__(self, asked: int) -> None:
        self._asked = asked
        self._seen: deque[tuple[float, Health]] = deque(maxlen=WINDOW + 1)
        self._connection = 0

    def add(self, health: Health, connection: int, now: float) -> None:
        """Take an answer.

        Args:
            health: What it said.
            connection: Number of the connection it came over: another one may lead to
                another server, or to another process of the same.
            now: By any clock, for servers that don't tell theirs.
        """
        at = health.uptime or now
        if self._seen:
            if connection != self._connection or at < self._seen[-1][0]:
                self._seen.clear()
            elif at == self._seen[-1][0]:
                return  # what it told somebody else a moment ago
        self._connection = connection
        self._seen.append((at, health))

    def clear(self) -> None:
        """Forget them: what comes next is no continuation."""
        self._seen.clear()

    def methods(self) -> dict[str, Figures] | None:
        """Return what goes on in each method; None with less than two answers."""
        if len(self._seen) < 2:
            return None
        (then, before), (at, now) = self._seen[-2], self._seen[-1]
        oldest = self._seen[0][1]
        found = {}
        for name, method in now.methods.items():
            last, first = self._known(before, name), self._known(oldest, name)
            if last is None:
                found[name] = Figures(running=method.running)
                continue
            found[name] = Figures(
                max(method.calls - last.calls, 0) / (at - then),
                max(method.errors - last.errors, 0) / (at - then),
                method.running,
                _between(first or last, method),
            )
        return found

    def _known(self, health: Health, name: str) -> Method | None:
        """Return what an answer has of a method: nothing if there was no room to tell of it."""
        known = health.methods.get(name)
        if known is None and len(health.methods) < self._asked:
            return Method()  # it was not called yet
        return known


def _between(first: Method, last: Method) -> dict[float, float]:
    """Return the durations of the calls between two answers."""
    before = dict(first.times)
    grown = {seconds: count - before.get(seconds, 0) for seconds, count in last.times}
    timed = {seconds: count for seconds, count in grown.items() if count > 0}
    # Beside methods where each call is timed, one in sixteen must not count as one.
    weight = max((last.calls - first.calls) / sum(timed.values()), 1.0) if timed else 1.0
    return {seconds: count * weight for seconds, count in timed.items()}


#: What rows can be sorted by. Methods and instances: largest first, but for names.
SORTS: Final = ("calls", "errors", "p99", "running", "name")

_NUMBERS: Final[Mapping[str, Callable[[Figures], float]]] = {
    "calls": lambda each: each.calls,
    "errors": lambda each: each.errors,
    "p99": lambda each: each.percentile(99) or 0.0,
    "running": lambda each: each.running,
}


def sorted_methods(view: View, by: str) -> list[tuple[str, Figures]]:
    """Return the methods, sorted *by* one of `SORTS`; those that are alike by name."""
    rows = sorted(view.methods.items())
    if by in _NUMBERS:
        rows.sort(key=lambda row: -_NUMBERS[by](row[1]))
    return rows


def sorted_instances(view: View, by: str) -> list[InstanceRow]:
    """Return the instances, sorted *by* one of `SORTS`; those that are alike by place."""
    rows = sorted(view.instances, key=lambda row: place_of(row.instance))
    if by in _NUMBERS:
        rows.sort(key=lambda row: -_NUMBERS[by](row.figures) if row.figures else 0.0)
    return rows


def place_of(instance: Instance) -> tuple[str, tuple[str, ...], str]:
    """Return what instances are sorted by if by nothing else: zone, address, id."""
    return instance.zone, instance.addresses, instance.id
