"""Check that the suite for balancers finds what is wrong with one."""

import random
from collections.abc import Collection, Sequence

import pytest

from fastrpc.cluster.balancers import Balancer, Candidate
from fastrpc.testing.balancer import BALANCER_CHECKS, check_balancer


class First(Balancer):
    """The first that takes a call: right, and unfair. Others are wrong in one way each."""

    def __init__(self, seed: int = 0) -> None:
        self.members: list[Candidate] = []

    def update(self, members: Sequence[Candidate], now: float) -> None:
        self.members = list(members)

    def pick(self, key: object, now: float, avoid: Collection[Candidate] = ()) -> Candidate | None:
        takers = [each for each in self.members if each.takes()]
        return next((each for each in takers if each not in avoid), next(iter(takers), None))


class Anybody(First):
    def pick(self, key: object, now: float, avoid: Collection[Candidate] = ()) -> Candidate | None:
        return self.members[0] if self.members else None


class Forgetful(First):
    def update(self, members: Sequence[Candidate], now: float) -> None:
        self.members += [each for each in members if each not in self.members]


class Deaf(First):
    def pick(self, key: object, now: float, avoid: Collection[Candidate] = ()) -> Candidate | None:
        return super().pick(key, now)


class Fearful(First):
    def pick(self, key: object, now: float, avoid: Collection[Candidate] = ()) -> Candidate | None:
        member = super().pick(key, now, avoid)
        return member if member not in avoid else None


class Moody(First):
    def pick(self, key: object, now: float, avoid: Collection[Candidate] = ()) -> Candidate | None:
        random.SystemRandom().shuffle(self.members)
        return super().pick(key, now, avoid)


class Fragile(First):
    def pick(self, key: object, now: float, avoid: Collection[Candidate] = ()) -> Candidate | None:
        return self.members[len(str(key)) % len(self.members)]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (Anybody, "takes no call"),
        (Forgetful, "picked of an empty list"),
        (Deaf, "is to be avoided"),
        (Fearful, "nobody was picked"),
        (Moody, "gave other picks"),
        (Fragile, "empty: ZeroDivisionError"),
        (First, "a new member was not picked"),
    ],
)
def test_each_fault_is_found_and_named(wrong: type[First], told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        check_balancer(wrong)


def test_who_is_unfair_is_found_if_fairness_was_promised() -> None:
    check_balancer(First, only="fair")
    with pytest.raises(AssertionError, match="of the weight"):
        check_balancer(First, fair=(1.0, 1.0), only="fair")


def test_each_check_can_be_run_alone() -> None:
    for name in BALANCER_CHECKS:
        if name != "come and go":
            check_balancer(First, only=name)
