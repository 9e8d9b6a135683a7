"""Decide which worker to start, to drain and to kill, and when.

The supervisor tells what has happened and obeys the orders that come back. Nothing here
forks, signals or waits, so that a thousand schedules can be tried in a second.

Rules of the room:
  * time is an argument, chance comes from the source that was given;
  * a place has one worker, and for the time of a reload a second one: of all places only one
    has two, so there are never more than one over the number that was asked for;
  * a reload never takes a worker away before its replacement is ready.
"""

import math
import random
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, final

from fastrpc.errors import ConfigError
from fastrpc.policy.backoff import Backoff

MOST_WORKERS: Final = 1024

#: Seconds that a worker has to have served, so that its end is no sign of a crash loop.
STEADY: Final = 10.0

#: Seconds between the end of a worker and its restart: the first, and the longest.
FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 30.0

#: How often each worker is tried before the whole is given up, if none was ever ready.
FIRST_TRIES: Final = 3

#: Seconds until a worker has to be ready.
START_TIMEOUT: Final = 60.0

#: Seconds that a worker gets to be gone, after the grace or when there is none.
MARGIN: Final = 5.0


class Phase(Enum):
    """Where the whole stands."""

    IDLE = "idle"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


class WorkerState(Enum):
    """Where one worker stands. One that is gone has no state."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    KILLED = "killed"


class OrderKind(Enum):
    """What the supervisor is to do."""

    START = "start"
    DRAIN = "drain"
    HURRY = "hurry"
    KILL = "kill"


class Cause(Enum):
    """Why a worker is started."""

    BEGIN = "begin"
    RESTART = "restart"
    RELOAD = "reload"


class Ending(Enum):
    """What the end of a worker meant."""

    AS_TOLD = "as told"
    CRASHED = "crashed"
    NEVER_READY = "never ready"
    RELOAD_FAILED = "reload failed"
    GAVE_UP = "gave up"


@dataclass(frozen=True, slots=True)
class Order:
    """One thing to do.

    Attributes:
        kind: What.
        seat: To whom.
        cause: Of a start: why.
    """

    kind: OrderKind
    seat: int
    cause: Cause = Cause.BEGIN


@dataclass(slots=True, kw_only=True)
class Worker:
    """One process, as the plan knows it.

    Attributes:
        seat: Its number among those that live; the lowest one that was free.
        place: Whose work it does, 0 to one less than there are workers.
        state: Where it stands.
        since: When it came there.
        deadline: When it is killed, unless it is ready or gone by then.
        is_stale: A reload was asked for after it was started.
    """

    seat: int
    place: int
    since: float
    deadline: float
    state: WorkerState = WorkerState.STARTING
    is_stale: bool = False


@dataclass(slots=True, kw_only=True)
class Place:
    """The work of one worker, whichever process does it.

    Attributes:
        backoff: Says how long to wait before a restart.
        restarts: How often a worker ended by itself, so that another had to be started.
        failures: How many in a row have ended before they were ready.
        retry_at: When the next one is started, if there is none.
        current: Who does the work, or is to.
        coming: Who will take over when it is ready.
    """

    backoff: Backoff
    restarts: int = 0
    failures: int = 0
    retry_at: float = 0.0
    current: Worker | None = None
    coming: Worker | None = None


@dataclass(slots=True)
class _Decided:
    orders: list[Order] = field(default_factory=list)

    def add(self, kind: OrderKind, worker: Worker, cause: Cause = Cause.BEGIN) -> None:
        self.orders.append(Order(kind, worker.seat, cause))


@final
class Plan:
    """What is to be done with a number of workers.

    Each method takes what has happened and the time, and returns orders, to be obeyed in
    their order. A START that can't be obeyed is told by `ended`, like a worker's own end.

    Args:
        workers: How many are to serve.
        grace: Seconds that calls in flight get when a worker is drained.
        rng: Source of chance for the waits; an own one if None.
        is_patient: A worker that ends before it is ready is started again by the next
            reload only, and only what is hopeless is given up: for those who are still
            writing it.

    Attributes:
        phase: Where the whole stands.
        places: What is to be done, in order.
        has_failed: It ended because no worker was ever ready.

    Raises:
        ConfigError: There can't be so many workers.
    """

    def __init__(
        self,
        workers: int,
        grace: float,
        rng: random.Random | None = None,
        *,
        is_patient: bool = False,
    ) -> None:
        if type(workers) is not int or not 1 <= workers <= MOST_WORKERS:
            raise ConfigError(f"workers must be 1 to {MOST_WORKERS}, got {workers!r}")
        self.phase = Phase.IDLE
        self.places = [
            Place(backoff=Backoff(FIRST_WAIT, 2.0, 0.2, LONGEST_WAIT, rng)) for _ in range(workers)
        ]
        self.has_failed = False
        self._grace = grace
        self._is_patient = is_patient
        self._was_ready = False
        self._workers: dict[int, Worker] = {}

    @property
    def seats(self) -> int:
        """How many workers there can be at once."""
        return len(self.places) + 1

    @property
    def workers(self) -> list[Worker]:
        """Those that live, by their seats."""
        return [self._workers[seat] for seat in sorted(self._workers)]

    @property
    def is_reloading(self) -> bool:
        """Whether a worker is still to be replaced, or was and has not left."""
        return self.phase is Phase.RUNNING and any(
            worker.is_stale or worker.state is WorkerState.DRAINING
            for worker in self._workers.values()
        )

    def worker(self, seat: int) -> Worker | None:
        """Return who has this seat, None if it is free."""
        return self._workers.get(seat)

    def next_at(self) -> float:
        """Return when `tick` has something to do; infinity if nothing is planned."""
        times = [worker.deadline for worker in self._workers.values()]
        if self.phase is Phase.RUNNING:
            times += [place.retry_at for place in self.places if place.current is None]
        return min(times, default=math.inf)

    # What has happened

    def begin(self, now: float) -> list[Order]:
        """Start all."""
        assert self.phase is Phase.IDLE
        self.phase = Phase.RUNNING
        return self._settle(now)

    def ready(self, seat: int, now: float) -> list[Order]:
        """Note that a worker serves."""
        worker = self._workers[seat]
        if worker.state is not WorkerState.STARTING:
            return []  # told to go while it said so
        self._was_ready = True
        self._move(worker, WorkerState.SERVING, now, math.inf)
        place = self.places[worker.place]
        place.failures = 0
        decided = _Decided()
        if place.coming is worker:
            old, place.current, place.coming = place.current, worker, None
            assert old is not None
            self._drain(old, now, decided)
        return [*decided.orders, *self._settle(now)]

    def ended(
        self, seat: int, now: float, *, is_hopeless: bool = False
    ) -> tuple[Ending, list[Order]]:
        """Note that a worker is gone; also return what that meant.

        Args:
            seat: Which one.
            now: The time.
            is_hopeless: It said that it would be no better next time.
        """
        worker = self._workers.pop(seat)
        place = self.places[worker.place]
        was_serving = worker.state is WorkerState.SERVING
        served = now - worker.since if was_serving else 0.0
        if place.coming is worker:
            place.coming = None
            ending = self._reload_failed(worker)
        elif place.current is not worker or self.phase is not Phase.RUNNING:
            ending = Ending.AS_TOLD
            if place.current is worker:
                place.current = None
        else:
            place.current, place.coming = place.coming, None
            ending = self._crashed(place, now, served, is_hopeless, was_serving=was_serving)
        return ending, self.stop(now) if ending is Ending.GAVE_UP else self._settle(now)

    def reload(self, now: float) -> list[Order]:
        """Replace every worker that was started before now, one after the other."""
        if self.phase is not Phase.RUNNING:
            return []
        for worker in self._workers.values():
            worker.is_stale = worker.state in (WorkerState.STARTING, WorkerState.SERVING)
        for place in self.places:
            place.retry_at = min(place.retry_at, now)
        return self._settle(now)

    def stop(self, now: float) -> list[Order]:
        """Drain all; when it comes a second time, end them at once."""
        decided = _Decided()
        if self.phase is Phase.RUNNING:
            self.phase = Phase.STOPPING
            for worker in self.workers:
                if worker.state in (WorkerState.STARTING, WorkerState.SERVING):
                    self._drain(worker, now, decided)
        elif self.phase is Phase.STOPPING:
            for worker in self.workers:
                if worker.state is WorkerState.DRAINING:
                    worker.deadline = min(worker.deadline, now + MARGIN)
                    decided.add(OrderKind.HURRY, worker)
        return [*decided.orders, *self._settle(now)]

    def tick(self, now: float) -> list[Order]:
        """Do what is due."""
        return self._settle(now)

    # What follows

    def _settle(self, now: float) -> list[Order]:
        decided = _Decided()
        for worker in self.workers:
            if now >= worker.deadline:
                self._move(worker, WorkerState.KILLED, now, math.inf)
                decided.add(OrderKind.KILL, worker)
        if self.phase is Phase.RUNNING:
            for number, place in enumerate(self.places):
                if place.current is None and now >= place.retry_at:
                    cause = Cause.RESTART if place.restarts else Cause.BEGIN
                    place.current = self._start(number, now, cause, decided)
            self._roll(now, decided)
        elif self.phase is Phase.STOPPING and not self._workers:
            self.phase = Phase.ENDED
        return decided.orders

    def _roll(self, now: float, decided: _Decided) -> None:
        """Begin to replace the next worker, unless one is being replaced or started."""
        if self._leaving() or any(
            worker.state is WorkerState.STARTING or self.places[worker.place].coming is worker
            for worker in self._workers.values()
        ):
            return
        for number, place in enumerate(self.places):
            worker = place.current
            if worker is not None and worker.is_stale and worker.state is WorkerState.SERVING:
                place.coming = self._start(number, now, Cause.RELOAD, decided)
                return

    def _leaving(self) -> bool:
        """Say whether somebody who was replaced is still here."""
        return any(
            each is not self.places[each.place].current
            and each is not self.places[each.place].coming
            for each in self._workers.values()
        )

    def _start(self, place: int, now: float, cause: Cause, decided: _Decided) -> Worker:
        seat = next(seat for seat in range(self.seats) if seat not in self._workers)
        worker = Worker(seat=seat, place=place, since=now, deadline=now + START_TIMEOUT)
        self._workers[seat] = worker
        decided.add(OrderKind.START, worker, cause)
        return worker

    def _drain(self, worker: Worker, now: float, decided: _Decided) -> None:
        self._move(worker, WorkerState.DRAINING, now, now + self._grace + MARGIN)
        worker.is_stale = False
        decided.add(OrderKind.DRAIN, worker)

    @staticmethod
    def _move(worker: Worker, state: WorkerState, now: float, deadline: float) -> None:
        worker.state, worker.since, worker.deadline = state, now, deadline

    def _reload_failed(self, worker: Worker) -> Ending:
        """Leave the old ones in their places, unless another reload was asked for since."""
        if self.phase is not Phase.RUNNING:
            return Ending.AS_TOLD
        if not worker.is_stale:
            for other in self._workers.values():
                other.is_stale = False
        return Ending.RELOAD_FAILED

    def _crashed(
        self, place: Place, now: float, served: float, is_hopeless: bool, *, was_serving: bool
    ) -> Ending:
        if served >= STEADY:
            place.backoff.reset()
        place.restarts += 1
        if not was_serving:
            place.failures += 1
            tries = math.inf if self._is_patient else FIRST_TRIES
            if not self._was_ready and (
                is_hopeless or all(each.failures >= tries for each in self.places)
            ):
                self.has_failed = True
                return Ending.GAVE_UP
            if self._is_patient:
                place.retry_at = math.inf
                return Ending.NEVER_READY
        place.retry_at = now + place.backoff.next()
        return Ending.CRASHED if was_serving else Ending.NEVER_READY
