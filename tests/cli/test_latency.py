import math
import random
from array import array

import pytest

from fastrpc.cli import latency
from fastrpc.cli.latency import RELATIVE_ERROR, Histogram, Recorder
from fastrpc.errors import ConfigError

SEED = 20_261_121


def filled(values: list[float]) -> Histogram:
    histogram = Histogram()
    histogram.add(array("f", values))
    return histogram


def exact(values: list[float], percent: float) -> float:
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 1.0, 3600.0])
@pytest.mark.parametrize("percent", [0, 1, 10, 50, 90, 99, 99.9, 99.99, 100])
def test_percentiles_are_right_to_within_the_error_promised(scale: float, percent: float) -> None:
    rng = random.Random(SEED)
    values = [rng.lognormvariate(0, 1.5) * scale for _ in range(5000)]
    got = filled(values).percentile(percent)
    # The float itself is rounded to 24 bits before it is sorted in.
    assert got == pytest.approx(exact(values, percent), rel=RELATIVE_ERROR + 2**-23)


def test_known_percentiles() -> None:
    histogram = filled([n / 1000 for n in range(1, 1001)])
    assert histogram.percentile(50) == pytest.approx(0.5, rel=RELATIVE_ERROR)
    assert histogram.percentile(99) == pytest.approx(0.99, rel=RELATIVE_ERROR)
    assert histogram.percentile(100) == histogram.max == pytest.approx(1.0)
    assert histogram.min == pytest.approx(0.001)
    assert histogram.mean == pytest.approx(0.5005)
    assert histogram.count == 1000


def test_one_value_is_told_exactly() -> None:
    histogram = filled([0.000_123])
    for percent in (0, 50, 99.9, 100):
        assert histogram.percentile(percent) == pytest.approx(0.000_123, rel=2**-23)


def test_an_empty_histogram_says_zero() -> None:
    histogram = filled([])
    assert (histogram.count, histogram.mean, histogram.percentile(99)) == (0, 0.0, 0.0)
    assert list(histogram.buckets()) == []


def test_zero_is_a_duration() -> None:
    histogram = filled([0.0, 0.0, 1.0])
    assert histogram.percentile(50) == pytest.approx(0.0, abs=1e-30)


@pytest.mark.parametrize("percent", [-1, 100.1])
def test_there_is_no_such_percentile(percent: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 100"):
        filled([1.0]).percentile(percent)


def test_buckets_rise_and_hold_everything() -> None:
    rng = random.Random(SEED)
    histogram = filled([rng.expovariate(1000) for _ in range(3000)])
    buckets = list(histogram.buckets())
    assert [middle for middle, _ in buckets] == sorted(middle for middle, _ in buckets)
    assert sum(count for _, count in buckets) == 3000


def test_merging_is_the_same_as_counting_together() -> None:
    rng = random.Random(SEED)
    one, two = ([rng.random() for _ in range(500)] for _ in range(2))
    merged, together = filled(one), filled(one + two)
    merged.merge(filled(two))
    assert list(merged.buckets()) == list(together.buckets())
    assert (merged.count, merged.min, merged.max) == (together.count, together.min, together.max)
    assert merged.mean == pytest.approx(together.mean)


def test_a_recorder_keeps_what_was_recorded() -> None:
    recorder = Recorder()
    for n in range(5000):
        recorder.record(n / 1000)
    assert len(recorder) == 5000
    histogram = recorder.histogram()
    assert len(recorder) == histogram.count == 5000
    assert histogram.max == pytest.approx(4.999)


def test_recording_goes_on_after_sorting() -> None:
    recorder = Recorder()
    record = recorder.record  # bound once, as the load does
    record(1.0)
    recorder.histogram()
    record(2.0)
    assert recorder.histogram().count == 2


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "MAX_WAITING", 10)
    monkeypatch.setattr(latency, "PORTION", 4)
    recorder = Recorder()
    for n in range(1, 101):
        recorder.record(float(n))
    recorder.trim()
    assert len(recorder._waiting) <= 10
    assert len(recorder) == 100
    assert recorder.histogram().percentile(50) == pytest.approx(50, rel=RELATIVE_ERROR)


def test_clearing_forgets_all() -> None:
    recorder = Recorder()
    recorder.record(1.0)
    recorder.histogram()
    recorder.record(1.0)
    recorder.clear()
    assert len(recorder) == recorder.histogram().count == 0


def test_recent_looks_at_the_end_only() -> None:
    recorder = Recorder()
    for n in range(1, 101):
        recorder.record(float(n))
    recent = recorder.recent(10)
    assert (recent.count, recent.min) == (10, 91.0)
    assert len(recorder) == 100
