"""What is known of how long calls take is of the last half minute or so."""

import pytest

from fastrpc.cluster.timings import ENOUGH, METHODS_MAX, SPAN, Recent


def recent() -> tuple[Recent, list[float]]:
    now = [100.0]
    return Recent(lambda: now[0]), now


def test_nothing_is_known_of_a_few_calls() -> None:
    seen, _ = recent()
    assert seen.percentile("m", 95) == 0.0
    for _ in range(ENOUGH - 1):
        seen.add("m", 0.1)
    assert seen.percentile("m", 95) == 0.0
    seen.add("m", 0.1)
    assert seen.percentile("m", 95) == pytest.approx(0.1, rel=0.07)


def test_methods_are_told_apart() -> None:
    seen, _ = recent()
    for number in range(100):
        seen.add("quick", 0.001)
        seen.add("slow", 1.0 if number < 90 else 5.0)
    assert seen.percentile("quick", 99) == pytest.approx(0.001, rel=0.07)
    assert seen.percentile("slow", 50) == pytest.approx(1.0, rel=0.07)
    assert seen.percentile("slow", 95) == pytest.approx(5.0, rel=0.07)


def test_what_is_old_is_forgotten() -> None:
    seen, now = recent()
    for _ in range(100):
        seen.add("m", 1.0)
    now[0] += SPAN
    for _ in range(100):
        seen.add("m", 0.01)
    assert seen.percentile("m", 95) == pytest.approx(1.0, rel=0.07)
    now[0] += SPAN
    seen.add("m", 0.01)
    assert seen.percentile("m", 95) == pytest.approx(0.01, rel=0.07)
    now[0] += 10 * SPAN
    seen.add("m", 0.01)
    assert seen.percentile("m", 95) == 0.0


def test_there_is_room_for_so_many_methods() -> None:
    seen, _ = recent()
    for number in range(METHODS_MAX + 5):
        seen.add(f"m{number}", 0.1)
    assert len(seen._spans) == METHODS_MAX
