"""Durations: which bucket each falls into, and that both twins agree on it."""

import math
import random
from types import SimpleNamespace

import pytest

from tests.frame.rig import arguments
from tests.frame.twins import agree, both


def test_a_bucket_is_a_sixteenth_of_a_doubling(twin: SimpleNamespace) -> None:
    durations = twin.Durations()
    for seconds in (1.0, 1.0624, 1.0625, 1.99, 2.0):
        durations.add(seconds)
    assert durations.buckets() == [
        (1.0, 1.0625, 2), (1.0625, 1.125, 1), (1.9375, 2.0, 1), (2.0, 2.125, 1),
    ]  # fmt: skip
    assert (durations.count, durations.max) == (5, 2.0)
    assert durations.total == pytest.approx(7.1149)


@pytest.mark.parametrize("seconds", [0.0, -0.0, -5.0, 1e-300, 2.0**-20, float("nan")])
def test_what_is_too_short_to_tell_is_the_shortest(twin: SimpleNamespace, seconds: float) -> None:
    durations = twin.Durations()
    durations.add(seconds)
    ((lower, upper, count),) = durations.buckets()
    assert (lower, upper, count) == (2.0**-20, 2.0**-20 * 17 / 16, 1)
    assert durations.max == durations.total == (seconds if seconds > 0 else 0.0)


@pytest.mark.parametrize("seconds", [2.0**17, 2.0**17 - 1, 1e9, math.inf])
def test_what_is_too_long_to_tell_is_the_longest(twin: SimpleNamespace, seconds: float) -> None:
    durations = twin.Durations()
    durations.add(seconds)
    ((lower, upper, count),) = durations.buckets()
    assert (lower, upper, count) == (2.0**16 * 31 / 16, 2.0**17, 1)
    assert durations.max == seconds


def test_nothing_was_counted(twin: SimpleNamespace) -> None:
    durations = twin.Durations()
    assert (durations.buckets(), durations.count, durations.total, durations.max) == ([], 0, 0, 0)


def test_a_method_has_none_until_a_call_was_timed(twin: SimpleNamespace) -> None:
    method = twin.Method(b"m", 0, print, arguments())
    assert method.times is None
    method.note(0.5)
    method.note(0.25)
    assert (method.times.count, method.times.total, method.times.max) == (2, 0.75, 0.5)


@pytest.mark.compiled
def test_the_twins_agree() -> None:
    rng = random.Random(11)
    pure, compiled = (each.Durations() for each in both())
    for _ in range(3000):
        seconds = math.ldexp(rng.random() + 0.5, rng.randrange(-26, 22))
        pure.add(seconds)
        compiled.add(seconds)
    for field in ("count", "total", "max"):
        agree(f"durations.{field}", getattr(pure, field), getattr(compiled, field))
    agree("durations.buckets", pure.buckets(), compiled.buckets())
    assert sum(count for _, _, count in pure.buckets()) == 3000
    assert len(pure.buckets()) > 500
