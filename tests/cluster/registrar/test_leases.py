import random
from dataclasses import replace

import pytest

from fastrpc.cluster.registrar.leases import _STALE, Event, LeaseLimits, Leases, Row, TooMany

A = Row(b"a", "me", 10.0)
B = Row(b"b", "you", 10.0)


def test_a_lease_ends_when_it_is_not_renewed_and_not_sooner() -> None:
    leases = Leases()
    assert leases.publish("p/s", "x", A, 0.0)
    assert leases.expire(9.9) == []
    assert not leases.publish("p/s", "x", A, 5.0)  # a renewal is nothing to be kept
    assert leases.expire(14.9) == []
    assert leases.expire(15.0) == [("p/s", "x")]
    assert (leases.listing("p/s"), leases.count) == ([], 0)


def test_a_shorter_time_counts_from_when_it_was_asked_for() -> None:
    leases = Leases()
    leases.publish("p/s", "x", A._replace(ttl=1000.0), 0.0)
    assert leases.publish("p/s", "x", A, 1.0)
    assert leases.expire(10.9) == []
    assert leases.expire(11.0) == [("p/s", "x")]


def test_each_change_has_the_next_number_and_renewals_have_none() -> None:
    leases = Leases()
    leases.publish("p/s", "x", A, 0.0)
    leases.publish("p/s", "x", A, 1.0)
    leases.publish("p/s", "x", A._replace(owner="other"), 1.0)
    leases.publish("p/s", "x", B, 2.0)
    leases.publish("p/s", "y", A, 2.0)
    assert leases.withdraw("p/s", "x", "you")
    leases.expire(100.0)
    assert leases.since("p/s", 0) == [
        Event(1, "x", b"a"),
        Event(2, "x", b"b"),
        Event(3, "y", b"a"),
        Event(4, "x", None, True),
        Event(5, "y", None),
    ]
    assert leases.since("p/s", 4) == [Event(5, "y", None)]
    assert leases.since("p/s", 5) == []
    assert leases.since("p/s", 6) is None  # of another server, or of the time to come


def test_what_is_not_ours_is_left_alone() -> None:
    leases = Leases()
    leases.publish("p/s", "x", A, 0.0)
    assert leases.publish("p/s", "x", A._replace(owner="other"), 0.0)  # it has to be kept
    for place, id, owner in (("p/s", "x", "me"), ("p/s", "y", "other"), ("p/t", "x", "other")):
        assert not leases.withdraw(place, id, owner)
    assert leases.count == 1
    assert leases.withdraw("p/s", "x", "other")


def test_after_a_restart_every_lease_begins_anew() -> None:
    leases = Leases()
    leases.restore([("p/s", "x", A), ("p/s", "y", B._replace(ttl=5.0))], 100.0)
    assert leases.listing("p/s") == [("x", b"a"), ("y", b"b")]
    assert leases.expire(104.9) == []
    assert leases.expire(105.0) == [("p/s", "y")]
    assert leases.expire(110.0) == [("p/s", "x")]


def test_history_is_forgotten_oldest_first_and_a_gap_is_told() -> None:
    leases = Leases(LeaseLimits(max_history=3))
    for number in range(3):
        leases.publish("p/quiet" if number == 0 else "p/s", f"x{number}", A, 0.0)
    assert leases.since("p/quiet", 0) == [Event(1, "x0", b"a")]
    leases.publish("p/s", "x3", A, 0.0)  # the first change is forgotten
    assert leases.since("p/quiet", 0) is None
    assert leases.since("p/quiet", 1) == []
    assert [event.revision for event in leases.since("p/s", 1) or ()] == [2, 3, 4]
    leases.publish("p/s", "x4", A, 0.0)
    assert leases.since("p/s", 1) is None
    assert [event.revision for event in leases.since("p/s", 2) or ()] == [3, 4, 5]


def test_a_service_that_nobody_remembers_is_gone_whole() -> None:
    leases = Leases(LeaseLimits(max_history=2))
    for number in range(10):
        leases.publish(f"p/s{number}", "x", A, 0.0)
        leases.withdraw(f"p/s{number}", "x", "me")
    assert len(leases._places) <= 2
    tell = [].clear
    leases.watch("p/watched", tell)
    assert "p/watched" in leases._places
    leases.unwatch("p/watched", tell)
    assert "p/watched" not in leases._places


def test_one_who_came_back_after_all_was_forgotten_gets_a_list() -> None:
    leases = Leases(LeaseLimits(max_history=1))
    leases.publish("p/s", "x", A, 0.0)
    revision = leases.revision
    leases.withdraw("p/s", "x", "me")
    leases.publish("p/other", "x", A, 0.0)  # what was known of p/s is forgotten
    assert leases.since("p/s", revision) is None
    leases.publish("p/s", "y", A, 0.0)
    assert leases.since("p/s", revision) is None


def test_names_under_a_prefix() -> None:
    leases = Leases()
    for place in ("p/b", "p/a", "p/q/c", "pp/d"):
        leases.publish(place, "x", A, 0.0)
    leases.publish("p/gone", "x", A, 0.0)
    leases.withdraw("p/gone", "x", "me")
    assert leases.places("p") == ["a", "b"]
    assert leases.places("p/q") == ["c"]
    assert leases.places("nobody") == []


def test_those_who_watch_are_told_of_their_own() -> None:
    leases = Leases()
    told: list[str] = []
    watch, guard = (lambda: told.append("watch")), (lambda: told.append("guard"))
    leases.watch("p/s", watch)
    leases.guard("me", guard)
    leases.publish("p/s", "x", A, 0.0)
    leases.publish("p/other", "x", A, 0.0)
    leases.publish("p/other", "y", A, 0.0)
    assert told == ["watch"]
    leases.withdraw("p/other", "y", "me")
    assert told == ["watch"]  # an owner knows what it has taken away
    leases.expire(10.0)
    assert told == ["watch", "watch", "guard"]  # once for both entries
    leases.unwatch("p/s", watch)
    leases.unguard("me", guard)
    leases.publish("p/s", "x", A, 20.0)
    leases.expire(40.0)
    assert len(told) == 3
    assert leases._guards == {}


@pytest.mark.parametrize(
    ("limit", "place"),
    [("max_entries", "p/other"), ("max_instances", "p/s"), ("max_services", "p/other")],
)
def test_every_limit_is_named_when_it_is_reached(limit: str, place: str) -> None:
    wide = LeaseLimits()
    count = 1 if limit == "max_services" else 2
    leases = Leases(replace(wide, **{limit: count}))
    for id in ("x", "y"):
        leases.publish("p/s", id, A, 0.0)
    before = leases.listing("p/s"), leases.revision, list(leases._places)
    with pytest.raises(TooMany, match=limit):
        leases.publish(place, "z", A, 0.0)
    assert (leases.listing("p/s"), leases.revision, list(leases._places)) == before
    leases.publish("p/s", "x", B, 0.0)  # those who are there may change, and renew
    for id, owner in (("x", "you"), ("y", "me")):
        assert leases.withdraw("p/s", id, owner)
    leases.publish(place, "z", A, 0.0)


def test_an_owner_has_a_limit_and_others_have_room() -> None:
    leases = Leases(LeaseLimits(max_by_owner=2))
    for id in ("x", "y"):
        leases.publish("p/s", id, A, 0.0)
    leases.publish("p/s", "z", B, 0.0)
    for id in ("new", "z"):  # a new one, and one of another
        with pytest.raises(TooMany, match=r"the owner has 2 entries \(max_by_owner\)"):
            leases.publish("p/s", id, A, 0.0)
    leases.publish("p/s", "x", A._replace(text=b"other"), 1.0)
    leases.publish("p/s", "y", B, 1.0)
    leases.publish("p/s", "new", A, 1.0)
    leases.expire(100.0)
    assert (leases._by_owner, leases._by_connection, leases.bytes) == ({}, {}, 0)


def test_a_connection_has_a_limit_whatever_owners_it_names() -> None:
    leases = Leases(LeaseLimits(max_by_connection=2))
    for number in range(2):
        leases.publish("p/s", f"x{number}", A._replace(owner=f"o{number}"), 0.0, "here")
    with pytest.raises(TooMany, match=r"the connection has 2 entries \(max_by_connection\)"):
        leases.publish("p/s", "x2", A, 0.0, "here")
    leases.publish("p/s", "x2", A, 0.0, "there")
    leases.publish("p/s", "x0", A._replace(owner="o0"), 0.0, "there")  # renewed from there
    leases.publish("p/s", "x3", A, 0.0, "here")


def test_all_bytes_have_a_limit_and_so_has_the_history() -> None:
    leases = Leases(LeaseLimits(max_bytes=10_000, max_history_bytes=10_000))
    big = A._replace(text=b"x" * 4096)
    for id in ("x", "y"):
        leases.publish("p/s", id, big, 0.0)
    for id, row in (("z", big), ("x", A._replace(text=b"x" * 9000))):
        with pytest.raises(TooMany, match=r"10000 bytes of entries \(max_bytes\)"):
            leases.publish("p/s", id, row, 0.0)
    for number in range(100):
        leases.publish("p/s", "x", A._replace(text=b"%04d" % number * 1000), 0.0)
    assert sum(len(event.text or b"") for event in leases._places["p/s"].log) <= 10_000
    assert leases.since("p/s", 0) is None
    assert leases.bytes <= 10_000


def test_services_are_sorted_once_for_each_state() -> None:
    leases = Leases()
    for name in ("b", "a"):
        leases.publish(f"p/{name}", "x", A, 0.0)
    leases.publish("p/q/c", "x", A, 0.0)
    found = leases.places("p")
    assert found == ["a", "b"]
    leases.publish("p/a", "y", B, 0.0)
    leases.publish("q/a", "y", B, 0.0)
    assert leases.places("p") is found
    leases.withdraw("p/b", "x", "me")
    assert leases.places("p") == ["a"]
    leases.expire(100.0)
    assert (leases.places("p"), leases.places("p/q")) == ([], [])
    assert (leases._names, leases._sorted) == ({}, {})


def test_leases_that_come_and_go_leave_nothing_behind() -> None:
    leases = Leases(LeaseLimits(max_history=10))
    for number in range(3 * _STALE):
        leases.publish("p/s", f"x{number}", A._replace(ttl=86_400.0), 0.0)
        leases.withdraw("p/s", f"x{number}", "me")
    assert len(leases._schedule) <= _STALE + 2
    leases.publish("p/s", "x", A, 0.0)
    assert leases.expire(10.0) == [("p/s", "x")]


@pytest.mark.parametrize("seed", range(5))
def test_it_is_as_a_plain_table_would_be(seed: int) -> None:
    rng = random.Random(seed)
    leases = Leases(LeaseLimits(max_history=20))
    model: dict[tuple[str, str], tuple[Row, float]] = {}
    known: dict[str, dict[str, bytes]] = {"p/a": {}, "p/b": {}}
    revisions = dict.fromkeys(known, 0)
    now = 0.0
    for _ in range(2000):
        now += rng.random()
        place, id = rng.choice(list(known)), rng.choice("uvwxyz")
        row = Row(rng.choice((b"1", b"2")), rng.choice("AB"), rng.choice((1.0, 5.0, 20.0)))
        what = rng.randrange(4)
        if what == 0:
            leases.publish(place, id, row, now)
            model[place, id] = row, now + row.ttl
        elif what == 1:
            wanted = (place, id) in model and model[place, id][0].owner == row.owner
            assert leases.withdraw(place, id, row.owner) is wanted
            if wanted:
                del model[place, id]
        elif what == 2:
            over = {key for key, (_, until) in model.items() if until <= now}
            assert set(leases.expire(now)) == over
            for key in over:
                del model[key]
        else:  # a watch catches up
            changes = leases.since(place, revisions[place])
            if changes is None:
                known[place] = dict(leases.listing(place))
            for change in changes or ():
                if change.text is None:
                    del known[place][change.id]
                else:
                    known[place][change.id] = change.text
            revisions[place] = leases.revision
            assert known[place] == dict(leases.listing(place))
        for name in known:
            there = {id: row.text for (at, id), (row, _) in model.items() if at == name}
            assert dict(leases.listing(name)) == there
        assert leases.count == len(model)
