"""Leave an instance alone that does badly; one call shows whether it is well again.

After Finagle's failure accrual: so many failures in a row, or too small a share of
successes, and the instance is dead for a while that doubles from time to time; then a
single call may try it. Who is ejected is a matter of the whole group: if too many
are, the fault is elsewhere, and all are used as if none were (panic).

Rules of the room:
  * time and chance are arguments;
  * the counts are given: who has them counts calls, not this.
"""

import random
from dataclasses import dataclass
from enum import Enum
from typing import Final, final

from fastrpc.errors import ConfigError

_SPREAD: Final = 0.2

#: So often at most an ejection is doubled: any time is over any cap by then.
_DOUBLED: Final = 64


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EjectionOptions:
    """When an instance is left alone, and for how long.

    Attributes:
        in_a_row: So many failures without a success between.
        success_share: A smaller share of successes than this, ...
        least_calls: ... of so many calls at least, ...
        window: ... in so many seconds.
        first: Seconds of the first ejection; each that follows is twice as long.
        longest: Most seconds of one.
        panic_share: If more than this share of all is ejected, nobody is.
        handler_errors: Whether exceptions of handlers count, too; else only what goes wrong
            between handlers: connections, deadlines, refusals.
    """

    in_a_row: int = 5
    success_share: float = 0.8
    least_calls: int = 20
    window: float = 30.0
    first: float = 5.0
    longest: float = 300.0
    panic_share: float = 0.5
    handler_errors: bool = True

    def __post_init__(self) -> None:
        """Refuse values that make no sense."""
        for name in ("in_a_row", "least_calls"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ConfigError(f"{name} must be 1 or more, got {getattr(self, name)!r}")
        for name in ("success_share", "panic_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be 0 to 1, got {getattr(self, name)!r}")
        if type(self.handler_errors) is not bool:
            raise ConfigError(f"handler_errors must be True or False, got {self.handler_errors!r}")
        if not 0 < self.window < float("inf"):
            raise ConfigError(f"window must be above 0, got {self.window!r}")
        if not 0 < self.first <= self.longest < float("inf"):
            raise ConfigError(f"first must be above 0 and at most longest, got {self.first!r}")


class Standing(Enum):
    """How an instance stands."""

    GOOD = "good"
    EJECTED = "ejected"
    PROBED = "probed"  # one call at a time, until one has ended


@final
class Ejection:
    """The standing of one instance.

    Args:
        options: When and for how long.
        rng: Source of chance.

    Attributes:
        standing: How it stands.
        until: When it may be tried again, while it is ejected.
        ejections: How often it was ejected without having been well in between.
    """

    def __init__(self, options: EjectionOptions, rng: random.Random) -> None:
        self._options = options
        self._rng = rng
        self._began = 0.0
        self._calls = self._errors = 0
        self._well_since: float | None = None
        self.standing = Standing.GOOD
        self.until = 0.0
        self.ejections = 0

    def look(self, calls: int, errors: int, streak: int, now: float) -> Standing:
        """Judge by the counts and return the standing.

        Args:
            calls: How many calls have ended so far.
            errors: How many of them failed.
            streak: How many failed since the last success.
            now: Time of the clock.
        """
        options = self._options
        if self.standing is Standing.EJECTED:
            if now >= self.until:
                self.standing = Standing.PROBED
                self._begin(calls, errors, now)
        elif self.standing is Standing.PROBED:
            if errors > self._errors:
                self._eject(now)
            elif calls > self._calls:
                self.standing = Standing.GOOD
                self._well_since = now
                self._begin(calls, errors, now)
        else:
            fresh, failed = calls - self._calls, errors - self._errors
            few = fresh < options.least_calls
            if streak >= options.in_a_row or (
                not few and fresh - failed < options.success_share * fresh
            ):
                self._eject(now)
            elif now - self._began >= options.window:
                self._begin(calls, errors, now)
            if self._well_since is not None and now - self._well_since >= options.longest:
                self.ejections, self._well_since = 0, None
        return self.standing

    def _begin(self, calls: int, errors: int, now: float) -> None:
        self._began, self._calls, self._errors = now, calls, errors

    def _eject(self, now: float) -> None:
        options = self._options
        planned = min(options.first * 2.0 ** min(self.ejections, _DOUBLED), options.longest)
        self.standing = Standing.EJECTED
        self.until = now + planned * (1 + self._rng.uniform(-_SPREAD, _SPREAD))
        self.ejections += 1
        self._well_since = None


def is_panic(ejected: int, of: int, options: EjectionOptions) -> bool:
    """Say whether so many are ejected that it can't be their own fault."""
    return ejected > of * options.panic_share
