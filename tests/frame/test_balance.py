"""Check what balancers have in the unit of picks: calls in flight, lines, rotas, bounds."""

from array import array
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cluster.balancers.members import puppet_class
from tests.frame.twins import agree, both


class Stranger:
    """A member of a user's own."""

    def __init__(self, count: int = 0) -> None:
        self.in_flight = count
        self.is_stopped = False

    def takes(self) -> bool:
        return not self.is_stopped

    def send(self) -> None:
        self.in_flight += 1

    def end(self) -> None:
        self.in_flight -= 1

    def stop(self, stopped: bool = True) -> None:
        self.is_stopped = stopped


def puppets(twin: SimpleNamespace, *counts: int) -> list[Any]:
    """Return members with so many calls in flight, of both kinds by turns."""
    made = puppet_class(twin)
    found: list[Any] = []
    for place, count in enumerate(counts):
        found.append(Stranger() if place % 2 else made(f"m{place}"))
        for _ in range(count):
            found[-1].send()
    return found


def line(twin: SimpleNamespace, members: list[Any], *steps: float, start: int = 0) -> Any:
    return twin.Line(twin.InFlight(members), list(steps or [2.0] * len(members)), start)


def sent(waiting: Any, members: list[Any], count: int) -> list[int]:
    """Take so many and send each a call; return their places."""
    places = []
    for _ in range(count):
        places.append(waiting.take())
        members[places[-1]].send()
    return places


# Calls in flight


def test_all_are_asked_at_first_and_when_it_is_said(twin: SimpleNamespace) -> None:
    members = puppets(twin, 1, 2, 3)
    calls = twin.InFlight(members)
    assert (calls.counts, calls.total) == ([1, 2, 3], 6)
    members[0].send()
    members[1].end()
    members[1].end()
    assert (calls.counts, calls.total) == ([1, 2, 3], 6)
    calls.ask()
    assert (calls.counts, calls.total) == ([2, 0, 3], 5)


def test_what_is_noted_is_known_until_all_are_asked(twin: SimpleNamespace) -> None:
    calls = twin.InFlight(iter(puppets(twin, 0, 0, 0)))
    calls.note(2, 2)
    calls.note(2, 3)
    calls.note(1, 1)
    assert (calls.counts, calls.total) == ([0, 1, 3], 4)
    calls.ask()
    assert (calls.counts, calls.total) == ([0, 0, 0], 0)


def test_room_is_what_the_member_says_now(twin: SimpleNamespace) -> None:
    members = puppets(twin, 1, 2)
    calls = twin.InFlight(members)
    for place, member in enumerate(members):
        member.send()
        assert calls.room(place) == place + 2
        member.stop()
        assert calls.room(place) == -1
    assert calls.counts == [1, 2]


def test_a_member_has_room_in_one_lane_of_several_and_below_its_cap(twin: SimpleNamespace) -> None:
    member, other = puppets(twin, 2, 0)[0], puppets(twin, 1)[0]
    member.lanes += other.lanes
    calls = twin.InFlight([member])
    assert calls.room(0) == 3
    member.lanes[0].ready = False
    assert calls.room(0) == 3
    member.cap = 3
    assert calls.room(0) == -1
    member.cap = 4
    assert calls.room(0) == 3
    member.lanes[1].crowded = True
    assert calls.room(0) == -1
    member.lanes.clear()
    assert (calls.room(0), member.takes()) == (-1, False)


@pytest.mark.parametrize("place", [-1, 2, 2**40])
def test_there_are_no_other_places_than_those_of_members(twin: SimpleNamespace, place: int) -> None:
    calls = twin.InFlight(puppets(twin, 1, 1))
    with pytest.raises(IndexError, match="no such place"):
        calls.room(place)
    with pytest.raises(IndexError, match="no such place"):
        calls.note(place, 1)
    assert calls.total == 2


def test_what_a_member_raises_is_heard_and_the_sum_stays_right(twin: SimpleNamespace) -> None:
    class Broken(Stranger):
        def takes(self) -> bool:
            raise ValueError("takes")

    members = puppets(twin, 1, 1)
    members.append(Broken(5))
    calls = twin.InFlight(members)
    with pytest.raises(ValueError, match="takes"):
        calls.room(2)
    members[0].send()
    members[2].in_flight = "many"
    with pytest.raises(TypeError):
        calls.ask()
    assert calls.total == sum(calls.counts) == 8


# Lines


def test_the_least_loaded_come_first_and_of_these_the_one_that_has_waited_longest(
    twin: SimpleNamespace,
) -> None:
    members = puppets(twin, 1, 0, 0, 2)
    waiting = line(twin, members, start=2)
    assert sent(waiting, members, 8) == [2, 1, 0, 2, 1, 3, 0, 2]
    assert waiting.calls.counts == [3, 2, 3, 3]


def test_lighter_members_go_up_by_more(twin: SimpleNamespace) -> None:
    members = puppets(twin, 0, 0)
    waiting = line(twin, members, 2.0, 6.0)
    assert Counter(sent(waiting, members, 40)) == {0: 30, 1: 10}


def test_who_takes_no_call_is_left_out_until_all_are_lined_up(twin: SimpleNamespace) -> None:
    members = puppets(twin, 0, 0, 0)
    waiting = line(twin, members)
    members[0].stop()
    assert [waiting.take() for _ in range(3)] == [1, 2, 1]
    members[0].stop(False)
    assert waiting.take() == 2
    waiting.calls.ask()
    waiting.order(3)
    assert waiting.take() == 0
    for member in members:
        member.stop()
    assert [waiting.take(), waiting.take()] == [-1, -1]


def test_who_has_more_calls_than_was_known_goes_back(twin: SimpleNamespace) -> None:
    members = puppets(twin, 0, 0, 0)
    waiting = line(twin, members)
    members[0].send()
    members[0].send()
    assert sent(waiting, members, 6) == [1, 2, 1, 2, 0, 1]
    assert waiting.calls.counts == [3, 3, 2]


def test_those_to_be_avoided_are_passed_over_and_stay(twin: SimpleNamespace) -> None:
    members = puppets(twin, 0, 0, 0)
    waiting = line(twin, members)
    assert waiting.take(avoid=members[:2]) == 2
    assert waiting.calls.counts == [0, 0, 1]
    assert [waiting.take(()) for _ in range(3)] == [0, 1, 2]
    assert waiting.take(members) == -1


def test_there_is_nobody_in_an_empty_line(twin: SimpleNamespace) -> None:
    waiting = line(twin, [])
    assert waiting.take() == -1
    waiting.order(0)
    assert waiting.take() == -1


def test_a_line_needs_a_step_for_each_and_a_place_to_start_from(twin: SimpleNamespace) -> None:
    members = puppets(twin, 0, 0)
    for steps in ([], [2.0], [2.0] * 3):
        with pytest.raises(ValueError, match="each member needs a step"):
            twin.Line(twin.InFlight(members), steps, 0)
    for start in (-1, 3):
        with pytest.raises(ValueError, match="no such place"):
            line(twin, members, start=start)
    waiting = line(twin, members)
    with pytest.raises(ValueError, match="no such place"):
        waiting.order(3)
    assert waiting.take() == 0


def test_a_member_that_makes_calls_when_it_is_asked_does_no_harm(twin: SimpleNamespace) -> None:
    class Eager(Stranger):
        def takes(self) -> bool:
            if asked.append(1) is None and len(asked) == 1:
                waiting.order(0)
                waiting.take()
            return True

    asked: list[int] = []
    waiting = line(twin, [Eager(), Eager()])
    assert [waiting.take() for _ in range(3)] == [0, 1, 0]


# Rotas


def test_turns_are_by_their_gaps_and_spread_out(twin: SimpleNamespace) -> None:
    rota = twin.Rota([2.0, 4.0, 4.0], [0.0, 0.0, 0.0])
    assert [rota.take() for _ in range(8)] == [0, 1, 0, 2] * 2
    assert (rota.turn, rota.counts) == (8, [4, 2, 2])


def test_who_had_too_few_comes_first(twin: SimpleNamespace) -> None:
    rota = twin.Rota([3.0] * 3, [-0.5, -0.5, 1.0])
    assert [rota.take() for _ in range(4)] == [2, 2, 0, 1]


def test_turns_that_rounding_has_left_empty_are_skipped(twin: SimpleNamespace) -> None:
    rota = twin.Rota([4.0], [0.0])
    assert [rota.take(), rota.turn, rota.take(), rota.turn] == [0, 1, 0, 5]


def test_a_rota_needs_as_many_debts_as_gaps_and_somebody_whose_turn_it_is(
    twin: SimpleNamespace,
) -> None:
    for gaps, debts in (([1.0], []), ([], [0.0])):
        with pytest.raises(ValueError, match="a gap and a debt"):
            twin.Rota(gaps, debts)
    empty = twin.Rota([], [])
    with pytest.raises(IndexError, match="nobody"):
        empty.take()
    assert (empty.turn, empty.counts) == (0, [])


# Bounds


def test_words_that_are_alike_are_scattered(twin: SimpleNamespace) -> None:
    assert [twin.scattered(word) for word in (0, 1, 2**32 - 1)] == [
        0,
        1728126522214772751,
        5604108576054278860,
    ]
    assert len({twin.scattered(word) >> 54 for word in range(5000)}) > 950


def bounded(twin: SimpleNamespace, members: list[Any], *shares: float, load: float = 1.25) -> Any:
    places = {f"m{place}": place for place in range(len(members))}
    parts = list(shares) or [1 / len(members)] * len(members)
    return twin.Bounded(twin.InFlight(members), places, parts, load)


POINTS = array("Q", [10, 20, 30, 2**56, 2**57 - 1])
IDS = ["m0", "m1", "m2", "m0", "m1"]


def ring_of(points: Any, ids: Any, sector: int = 0) -> list[Any]:
    """Return a ring of which one sector is made."""
    return [(points, ids) if each == sector else None for each in range(128)]


RING = ring_of(POINTS, IDS)


@pytest.mark.parametrize(
    ("point", "place"),
    [(0, 0), (10, 0), (11, 1), (20, 1), (30, 2), (31, 0), (2**56 + 1, 1), (2**57 - 1, 1)],
)
def test_the_first_from_a_point_on_is_taken(twin: SimpleNamespace, point: int, place: int) -> None:
    ring = bounded(twin, puppets(twin, 0, 0, 0))
    assert ring.take(RING, point) == place
    assert (ring.calls.counts[place], ring.calls.total) == (1, 1)


def test_behind_the_last_point_there_is_nobody(twin: SimpleNamespace) -> None:
    ring = bounded(twin, puppets(twin, 0, 0))
    assert ring.take(ring_of(POINTS[:2], IDS[:2]), 21) == -1
    assert ring.take(ring_of(array("Q"), []), 0) == -1


def test_who_has_its_share_and_a_quarter_has_no_room(twin: SimpleNamespace) -> None:
    members = puppets(twin, 4, 2, 2)
    ring = bounded(twin, members)  # 9 calls to be: 3.75 for each
    assert [ring.has_room(place) for place in range(3)] == [False, True, True]
    found = []
    for _ in range(4):
        found.append(ring.take(RING, 0))
        members[found[-1]].send()
    assert found == [1, 0, 1, 1]  # at last 5 for each, which one has
    assert (ring.calls.counts, ring.calls.total) == ([5, 5, 2], 12)


def test_shares_count_and_who_is_idle_has_room_whatever_its_share(twin: SimpleNamespace) -> None:
    members = puppets(twin, 4, 1, 0)
    ring = bounded(twin, members, 0.9, 0.099, 0.001)
    assert [ring.has_room(place) for place in range(3)] == [True, False, True]


def test_a_bound_that_is_just_reached_is_reached(twin: SimpleNamespace) -> None:
    """(5 + 1) * 1.5 / 3 is 3, if nothing is lost in rounding."""
    ring = bounded(twin, puppets(twin, 3, 2, 0), load=1.5)
    assert [ring.has_room(place) for place in range(3)] == [False, True, True]


def test_who_takes_no_call_or_is_avoided_is_passed_over(twin: SimpleNamespace) -> None:
    members = puppets(twin, 0, 0, 0)
    ring = bounded(twin, members)
    assert ring.take(RING, 0, members[:1]) == 1
    assert ring.take(RING, 0, avoid=members) == -1
    members[0].stop()
    members[1].stop()
    assert [ring.has_room(place) for place in range(3)] == [False, False, True]
    assert ring.take(RING, 0) == 2
    assert ring.calls.counts == [0, 1, 1]


def test_eight_points_are_looked_at_and_no_more(twin: SimpleNamespace) -> None:
    members = puppets(twin, 0, 0)
    ring = bounded(twin, members)
    members[0].stop()
    points = array("Q", range(100, 110))
    for before, place in ((7, 1), (8, -1)):
        assert ring.take(ring_of(points, ["m0"] * before + ["m1"] * 9), 0) == place


def test_bounds_are_for_members_there_are(twin: SimpleNamespace) -> None:
    members = puppets(twin, 0, 0)
    calls = twin.InFlight(members)
    for shares in ([], [1.0], [1.0] * 3):
        with pytest.raises(ValueError, match="each member needs a share"):
            twin.Bounded(calls, {}, shares, 1.25)
    ring = twin.Bounded(calls, {"m0": 5}, [0.5, 0.5], 1.25)
    for place in (-1, 2):
        with pytest.raises(IndexError, match="no such place"):
            ring.has_room(place)
    with pytest.raises(IndexError, match="no such place"):
        ring.take(RING, 0)
    with pytest.raises(KeyError):
        ring.take(RING, 20)


def test_the_first_bits_of_a_point_say_the_sector(twin: SimpleNamespace) -> None:
    keys = bounded(twin, puppets(twin, 0, 0, 0))
    for sector in (0, 1, 127):
        ring = ring_of(POINTS, IDS, sector)
        found = [keys.take(ring, (each << 57) + 15) for each in range(128)]
        assert found == [1 if each == sector else -1 for each in range(128)]


@pytest.mark.parametrize("points", [array("q"), array("d", [1.0]), [1, 2], None])
def test_points_are_an_array_of_words(twin: SimpleNamespace, points: Any) -> None:
    with pytest.raises(TypeError):
        bounded(twin, puppets(twin, 0)).take(ring_of(points, ["m0"]), 1)


@pytest.mark.parametrize("ids", [None, ("m0",), "m0"])
def test_whose_they_are_is_a_list(twin: SimpleNamespace, ids: Any) -> None:
    with pytest.raises(TypeError):
        bounded(twin, puppets(twin, 0)).take(ring_of(array("Q", [5]), ids), 1)


def test_a_ring_has_all_its_sectors(twin: SimpleNamespace) -> None:
    for ring in ([], RING[1:], [*RING, None]):
        with pytest.raises(ValueError, match="128 sectors"):
            bounded(twin, puppets(twin, 0)).take(ring, 1)


# Both twins do the same

DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "take", "send", "end", "stop", "avoid", "order"]),
        st.integers(0, 4),
    ),
    max_size=80,
)


def lined(twin: SimpleNamespace, steps: list[float], deeds: list[tuple[str, int]]) -> list[Any]:
    members = puppets(twin, *[0] * 5)
    waiting = line(twin, members, *steps)
    told: list[Any] = []
    for what, number in deeds:
        if what in ("take", "avoid"):
            place = waiting.take(members[:number] if what == "avoid" else ())
            if place >= 0 and number:
                members[place].send()
            told.append(place)
        elif what == "order":
            waiting.calls.ask()
            waiting.order(number)
        elif what == "stop":
            members[number].stop(len(told) % 2 == 0)
        elif what == "send" or waiting.calls.room(number) > 0:
            getattr(members[number], what)()
        told.append((waiting.calls.counts, waiting.calls.total))
    return told


@pytest.mark.compiled
@given(st.lists(st.floats(0.01, 1e12), min_size=5, max_size=5), DEEDS)
def test_lines_agree(steps: list[float], deeds: list[tuple[str, int]]) -> None:
    pure, compiled = both()
    agree("line", lined(pure, steps, deeds), lined(compiled, steps, deeds), f"{steps} {deeds}")


SHARES = st.lists(
    st.tuples(st.floats(0.01, 1e4) | st.just(1.0), st.floats(-1.0, 1.0)), min_size=1, max_size=20
)


@pytest.mark.compiled
@given(SHARES)
def test_rotas_agree(shares: list[tuple[float, float]]) -> None:
    total = sum(weight for weight, _ in shares)
    gaps, debts = [total / weight for weight, _ in shares], [debt for _, debt in shares]
    told = []
    for twin in both():
        rota = twin.Rota(gaps, debts)
        told.append([[rota.take() for _ in range(150)], rota.turn, rota.counts])
    agree("rota", *told, str(shares))


@pytest.mark.compiled
@given(
    st.lists(st.tuples(st.integers(0, 2**57 - 1), st.integers(0, 4)), max_size=20),
    st.lists(st.tuples(st.integers(0, 2**57 - 1), st.booleans()), max_size=40),
    st.floats(1.01, 3.0),
)
def test_bounds_agree(
    owned: list[tuple[int, int]], deeds: list[tuple[int, bool]], load: float
) -> None:
    ring = sorted(owned)
    points, ids = array("Q", [point for point, _ in ring]), [f"m{place}" for _, place in ring]
    told: list[list[Any]] = []
    for twin in both():
        members = puppets(twin, *[0] * 5)
        keys = bounded(twin, members, 0.1, 0.2, 0.2, 0.2, 0.3, load=load)
        found = []
        for point, is_sent in deeds:
            place = keys.take(ring_of(points, ids), point, members[:1] if point % 3 else ())
            if is_sent and place >= 0:
                members[place].send()
            found.append((place, keys.calls.counts))
        told.append(found)
    agree("bounds", *told, f"{ring} {deeds} {load}")


@pytest.mark.compiled
@given(st.integers(0, 2**64 - 1))
def test_words_are_scattered_alike(word: int) -> None:
    pure, compiled = both()
    agree("scattered", pure.scattered(word), compiled.scattered(word), str(word))
