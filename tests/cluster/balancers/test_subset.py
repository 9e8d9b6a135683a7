"""Check that each client knows a few, and all together all."""

import random
from collections import Counter

import pytest

from fastrpc.cluster.balancers import Subset
from fastrpc.cluster.instance import Instance
from fastrpc.errors import ConfigError


def some(*numbers: int) -> list[Instance]:
    return [Instance(id=f"i{n}", addresses=(f"tcp://10.0.0.1:{n + 1}",)) for n in numbers]


def test_so_many_are_chosen_in_their_order_and_the_same_each_time() -> None:
    everybody = some(*range(100))
    chosen = list(Subset("a", 10).choose(everybody))
    assert len(chosen) == 10
    assert sorted(chosen, key=everybody.index) == chosen
    assert list(Subset("a", 10).choose(everybody)) == chosen
    assert list(Subset("b", 10).choose(everybody)) != chosen
    assert set(Subset("a", 10).choose(everybody[::-1])) == set(chosen)


def test_all_are_chosen_if_these_are_few() -> None:
    everybody = some(1, 2, 3)
    assert list(Subset("a", 3).choose(everybody)) == everybody


def test_a_change_of_one_exchanges_one_at_most() -> None:
    chance, subset = random.Random(1), Subset("client", 8)
    there = set(range(50))
    before = set(subset.choose(some(*sorted(there))))
    for _ in range(200):
        number = chance.randrange(100)
        changed = {f"i{number}"}
        there ^= {number}
        after = set(subset.choose(some(*sorted(there))))
        assert len(before - after) <= 1
        assert len(after - before) <= 1
        assert {e.id for e in before ^ after} & changed or before == after
        before = after


@pytest.mark.slow
def test_over_many_clients_all_are_known_to_about_as_many() -> None:
    everybody, counts = some(*range(100)), Counter[str]()
    for client in range(400):
        counts.update(each.id for each in Subset(f"client {client}", 20).choose(everybody))
    assert len(counts) == 100
    assert min(counts.values()) >= 45
    assert max(counts.values()) <= 115  # 80 each, give or take what chance does


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_a_size_of_no_sense_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match="size"):
        Subset("a", size)
