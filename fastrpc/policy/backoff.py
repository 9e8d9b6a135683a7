"""Say how long to wait before the next try to connect.

Waits grow by a factor up to a cap and are spread by chance, so that a thousand
clients of a server that comes back do not all knock in the same moment.
"""

import random

from fastrpc.errors import ConfigError


class Backoff:
    """Waits between tries: first, then longer by *factor* each, up to *cap*.

    Each wait is the planned one plus or minus up to *jitter* of it, so at the
    cap it lies between cap * (1 - jitter) and cap * (1 + jitter).

    Args:
        first: Planned first wait, in seconds.
        factor: Growth from one wait to the next, 1 or more.
        jitter: Share of the wait that chance decides, 0 to below 1.
        cap: Longest planned wait, in seconds.
        rng: Source of chance; an own one if None.
    """

    __slots__ = ("_cap", "_factor", "_first", "_jitter", "_planned", "_rng")

    def __init__(
        self,
        first: float = 0.1,
        factor: float = 1.6,
        jitter: float = 0.2,
        cap: float = 120.0,
        rng: random.Random | None = None,
    ) -> None:
        if not 0 < first < float("inf"):
            raise ConfigError(f"first must be above 0 and finite, got {first!r}")
        if not 1 <= factor < float("inf"):
            raise ConfigError(f"factor must be 1 or more and finite, got {factor!r}")
        if not 0 <= jitter < 1:
            raise ConfigError(f"jitter must be 0 to below 1, got {jitter!r}")
        if not first <= cap < float("inf"):
            raise ConfigError(f"cap must be at least first and finite, got {cap!r}")
        self._first = first
        self._factor = factor
        self._jitter = jitter
        self._cap = cap
        self._planned = first
        self._rng = rng if rng is not None else random.Random()

    def next(self) -> float:
        """Return the wait before the next try, in seconds, and plan a longer one."""
        planned = self._planned
        self._planned = min(self._cap, planned * self._factor)
        return planned * (1 + self._rng.uniform(-self._jitter, self._jitter))

    def reset(self) -> None:
        """Start over at the first wait: the last try worked."""
        self._planned = self._first
