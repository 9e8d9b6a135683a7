"""Check where keys and members lie, and what moves."""

import random
import subprocess
import sys
from itertools import pairwise

import pytest

from fastrpc.cluster.balancers.ring import POINTS, SECTORS, Ring, place_of
from fastrpc.errors import ConfigError


def ring(count: int, weight: float = 1.0) -> Ring:
    made = Ring()
    made.update({f"i{each}": weight for each in range(count)})
    return made


def owner(ring: Ring, place: int) -> str:
    return next(ring.walk(place))


PLACES = [place_of(f"user {each}") for each in range(20_000)]


def test_places_are_the_same_in_every_process() -> None:
    assert [place_of(key) for key in ("user:1", b"user:1", 7, ("a", 1), "")] == [
        2489635021856055312, 2489635021856055312, 12720495685347358410, 6093689614185963892, 0,
    ]  # fmt: skip
    code = "from fastrpc.cluster.balancers.ring import *; r = Ring(); r.update(dict.fromkeys('abcde', 1.0)); print([next(r.walk(place_of(k))) for k in range(40)])"
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


def test_places_are_spread_though_keys_are_alike() -> None:
    for keys in (range(20_000), [f"tenant/{n}/x" for n in range(20_000)]):
        counts = [0] * 64
        for key in keys:
            counts[place_of(key) >> 58] += 1
        assert min(counts) >= 230
        assert max(counts) <= 400


@pytest.mark.parametrize("key", [object(), {"a": 1}, ("a", object()), {1, 2}])
def test_what_differs_between_processes_is_no_key(key: object) -> None:
    with pytest.raises(ConfigError, match="a key is text"):
        place_of(key)


@pytest.mark.slow
def test_the_history_of_a_ring_leaves_no_traces() -> None:
    chance, changed = random.Random(1), Ring()
    for _ in range(10):
        listed = chance.sample(range(40), chance.randrange(1, 41))
        changed.update({f"i{each}": chance.choice((1.0, 2.0, 0.3)) for each in listed})
        for place in PLACES[:50]:
            owner(changed, place)
        few = dict.fromkeys((f"i{each}" for each in listed), 1.0)
        changed.update(few)
        few.popitem()
        few["new"] = 1.0
        changed.update(few)  # so few change that their points alone are moved
        fresh = Ring()
        fresh.update(few)
        for place in PLACES[:200]:
            assert owner(changed, place) == owner(fresh, place)


@pytest.mark.slow
@pytest.mark.parametrize("count", [10, 100])
def test_when_one_leaves_its_keys_alone_move_and_they_are_few(count: int) -> None:
    made = ring(count)
    before = [owner(made, place) for place in PLACES]
    for gone in random.Random(count).sample(range(count), 3):
        made.update({f"i{each}": 1.0 for each in range(count) if each != gone})
        after = [owner(made, place) for place in PLACES]
        moved = [old for old, new in zip(before, after, strict=True) if old != new]
        assert set(moved) <= {f"i{gone}"}
        assert len(moved) <= 1.2 / count * len(PLACES)
        made.update({f"i{each}": 1.0 for each in range(count)})
        assert [owner(made, place) for place in PLACES] == before


@pytest.mark.slow
def test_of_a_thousand_each_has_at_most_a_fifth_more_than_its_share() -> None:
    made = ring(1000)
    shares = dict.fromkeys((f"i{each}" for each in range(1000)), 0)
    size = 1 << 64 - 7
    carried = 0  # what lies behind the last point of a sector is of the first of the next
    for sector in [*range(SECTORS), 0]:
        places, ids = made._make(sector)
        edges = [0, *places]
        arcs = [there - here for here, there in pairwise(edges)]
        if sector or not carried:
            for id, arc in zip(ids, arcs, strict=True):
                shares[id] += arc
        shares[ids[0]] += carried
        carried = size - places[-1]
    total = sum(shares.values())
    assert total == pytest.approx(2**64, rel=1e-9)
    assert max(shares.values()) / total <= 1.2 / 1000


def test_points_are_by_weight_and_a_growing_weight_moves_keys_to_its_owner_only() -> None:
    made = Ring()
    weights = {"a": 1.0, "b": 1.0, "c": 0.1}
    made.update(weights)
    before = [owner(made, place) for place in PLACES[:4000]]
    for weight in (0.2, 0.5, 1.0):
        made.update({**weights, "c": weight})
        after = [owner(made, place) for place in PLACES[:4000]]
        assert {new for old, new in zip(before, after, strict=True) if old != new} == {"c"}
        before = after
    assert before.count("c") == pytest.approx(4000 / 3, rel=0.15)


def test_a_ring_has_a_bounded_number_of_points() -> None:
    made = Ring()
    made.update({"heavy": 10_000.0, "light": 1e-9})
    assert sum(len(made._make(sector)[1]) for sector in range(SECTORS)) <= POINTS + 1
    assert owner(made, 0) == "heavy"


def test_there_is_nobody_on_an_empty_ring() -> None:
    assert list(Ring().walk(1 << 60)) == []
    made = ring(3)
    made.update({})
    assert list(made.walk(5)) == []
