"""Say how long handlers that need not wait may hold the event loop in one of its turns.

Calls of such handlers never are in flight: they wait in sockets, unseen, and then all that a
read brings is run in one go. What tells of overload there is the length of the loop's turns:
every call that came during the last turn has waited for its end. After CoDel (Nichols and
Jacobson, ACM Queue 2012; for servers: Maurer, "Fail at Scale", ACM Queue 2015) a long turn is
no harm, it may be a burst; but if no turn was short for `INTERVAL`, a queue stands, and then
each turn gets a budget, and what would come later than that is refused.

Connections are read one after the other and, while all have something, always in the same
order; so each gets its share of what is left, and where a call takes more than that, lots are
drawn for who may run one. Only what they do with their shares counts: whatever else a turn of
the loop is used for, calls have their budget in it.

Rules of the room:
  * time and chance are arguments;
  * a call that has waited no longer than a budget is run: the loop never idles for a refusal.
"""

import random
from typing import Final, final

#: Seconds of handlers in a turn, once a queue stands; more if one call takes more.
TARGET: Final = 0.003
#: Longest turn that does not count as long, as CoDel has it; in calls if they take more.
QUEUE: Final = 0.005
CALLS: Final = 4
#: Seconds without a short turn that make a standing queue, and most of one turn before.
INTERVAL: Final = 0.1
#: Least turns without a short one between: after a single long one there is a backlog, too.
TURNS: Final = 3
#: So many times the target while few are refused: who is a little too busy may lag a little.
GENEROUS: Final = 4.0
#: Share of refused calls from which on there is only the target.
STRICT: Final = 0.4
#: Seconds without a refusal after which bursts are welcome again.
CALM: Final = 1.0

#: What `batch` returns if none may run.
NONE: Final = -1.0

_SMOOTH: Final = 0.1


@final
class TurnBudget:
    """The turns of one event loop, as far as calls use them.

    Args:
        rng: Source of chance.

    Attributes:
        is_pressed: Whether a queue stands, so that calls may be refused.
        cost: What a call takes, in seconds.
        refused: Share of the calls that were refused lately.
        longest: The longest turn since somebody has set it to 0.
    """

    __slots__ = (
        "_batches", "_began", "_calm_at", "_expected", "_granted", "_left", "_long", "_refused_at",
        "_rng", "cost", "is_pressed", "longest", "refused",
    )  # fmt: skip

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.is_pressed = False
        self.cost = self.longest = self.refused = 0.0
        self._began = self._calm_at = self._refused_at = self._left = self._granted = 0.0
        self._batches = self._long = 0
        self._expected = 1

    def wake(self, now: float) -> None:
        """Begin a turn after the loop had nothing to do: nothing has waited."""
        self._calm_at, self._long = now, 0
        self._begin(1, 0.0, now)

    def turn(self, now: float) -> None:
        """End a turn and begin the next."""
        spent = now - self._began
        self.longest = max(self.longest, spent)
        if spent <= max(QUEUE, CALLS * self.cost):
            self._calm_at, self._long = now, 0
        else:
            self._long += 1
        if self.is_pressed:
            self.is_pressed = now - self._refused_at < CALM
        elif self._long >= TURNS and now - self._calm_at > INTERVAL:
            self.is_pressed, self._refused_at, self.refused = True, now, 1.0
        self._begin(self._batches, spent, now)

    def batch(self, now: float) -> float:
        """Return until when calls of the connection whose turn it is may begin.

        The first of them may in any case, however late it is, unless it is `NONE`.
        """
        place, self._batches = self._batches, self._batches + 1
        if not self.is_pressed:
            return self._began + INTERVAL
        share = self._left / max(self._expected - place, 1)
        self._granted = max(share, self.cost)
        if share >= self.cost:
            return now + share - self.cost
        if self._rng.random() * self.cost < share:
            return now
        self._granted = 0.0
        return NONE

    def done(self, spent: float, ran: int, refused: int, others: int, now: float) -> None:
        """Note what became of a batch.

        Args:
            spent: Seconds that it took.
            ran: Calls that were run.
            refused: Calls that were not.
            others: Calls in it that have no budget.
            now: Time of the clock.
        """
        # What it took beyond its grant was for others, or bad luck: its neighbours don't pay.
        self._left -= min(spent, self._granted)
        if ran and not others:
            self.cost += (spent / ran - self.cost) * (_SMOOTH if self.cost else 1.0)
        if refused:
            self._refused_at = now
        if self.is_pressed and (ran or refused):
            share = refused / (ran + refused)
            self.refused += (share - self.refused) * min(_SMOOTH * _SMOOTH * (ran + refused), 1.0)

    def _begin(self, expected: int, last: float, now: float) -> None:
        """Begin a turn in which so many connections may have something.

        What has come since the last turn began has waited for up to so long: both turns
        together shall not be longer than two budgets.
        """
        self._began = now
        self._batches = 0
        self._expected = max(expected, 1)
        target = max(TARGET, self.cost) * self._generosity()
        self._left = max(target, 2 * target - last)

    def _generosity(self) -> float:
        return max(GENEROUS - (GENEROUS - 1.0) * self.refused / STRICT, 1.0)
