"""Check how old it may be what is known of calls in flight."""

from fastrpc.cluster.balancers.census import OLDEST, Census
from tests.cluster.balancers.members import stand_ins


def test_of_few_members_everything_is_known_at_each_pick() -> None:
    members = stand_ins(7)
    census = Census(members, 0.0)
    for count in range(5):
        members[count].in_flight = count
        assert census.look(0.0)
        assert census.calls.counts[count] == count
    assert census.calls.total == 10


def test_of_many_members_all_are_asked_within_a_quarter_of_their_number_of_picks() -> None:
    members = stand_ins(100)
    census = Census(members, 0.0)
    asked = [census.look(0.0) for _ in range(100)]
    assert [place for place, each in enumerate(asked) if each] == [24, 49, 74, 99]


def test_they_are_asked_after_twenty_milliseconds_however_few_the_picks() -> None:
    members = stand_ins(100)
    census = Census(members, 5.0)
    members[50].in_flight = 3
    assert not census.look(5.0 + OLDEST * 0.9)
    assert census.calls.total == 0
    assert census.look(5.0 + OLDEST)
    assert (census.calls.total, census.calls.counts[50]) == (3, 3)
    assert not census.look(5.0 + OLDEST * 1.9)
