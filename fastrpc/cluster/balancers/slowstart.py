"""Let an instance that has just come have little to do at first: its caches are cold."""

from math import floor
from typing import Final

#: What part of its weight an instance has in its first moment.
LEAST: Final = 0.1

#: Steps in which that grows: so often at most a balancer is told of new weights.
STEPS: Final = 10


def slow_start(came: float, now: float, seconds: float) -> float:
    """Return what part of its weight an instance has: it grows evenly from 0.1 to 1.

    Args:
        came: When it came; minus infinity if it was there before us.
        now: Time of the clock.
        seconds: After so many it has its full weight, 0 for at once.
    """
    age = now - came
    if age >= seconds:
        return 1.0
    # A hair more than was asked for: sums of floats fall short of whole steps.
    step = max(floor(age * STEPS / seconds + 1e-9), 0)
    return LEAST + (1.0 - LEAST) * step / STEPS
