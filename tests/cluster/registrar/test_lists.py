import pytest

from fastrpc.cluster.registrar.contract import PART, Refusal
from fastrpc.cluster.registrar.leases import LeaseLimits, Leases, Row
from fastrpc.cluster.registrar.lists import Lists
from fastrpc.errors import RpcError

ROW = Row(b"x" * 4096, "me", 15.0)


def filled(count: int, limits: LeaseLimits | None = None) -> tuple[Leases, Lists]:
    leases = Leases(limits)
    for number in range(count):
        leases.publish("p/s", f"x{number}", ROW, 0.0)
    return leases, Lists(leases, "epoch")


def test_a_list_is_made_once_for_each_state_of_its_service() -> None:
    leases, lists = filled(100)
    first = lists.get("p/s")
    leases.publish("p/other", "y", ROW, 0.0)
    leases.publish("p/s", "x1", ROW, 1.0)  # a renewal
    assert lists.get("p/s") is first
    leases.publish("p/s", "x1", ROW._replace(text=b"new"), 1.0)
    second = lists.get("p/s")
    assert second is not first
    assert (first.revision, second.revision) == (100, 102)
    assert (first.part(0).entries[1][1], second.part(0).entries[1][1]) == (ROW.text, b"new")


def test_a_list_comes_in_parts_and_the_last_says_so() -> None:
    _, lists = filled(100)
    found = [lists.get("p/s").part(0)]
    while found[-1].is_more:
        found.append(lists.get("p/s").part(len(found)))
    assert [id for each in found for id, _, _ in each.entries] == [f"x{n}" for n in range(100)]
    assert all(sum(len(text or b"") for _, text, _ in each.entries) < PART + 4096 for each in found)
    assert all(each.is_listing and each.revision == 100 for each in found)


def test_names_without_entries_leave_nothing() -> None:
    _, lists = filled(0)
    news = lists.get("p/s").part(0)
    assert (news.entries, news.is_listing, news.is_more) == ([], True, False)
    assert lists._current == {}


def test_old_lists_have_a_limit_and_the_slowest_reader_is_told() -> None:
    leases, lists = filled(10, LeaseLimits(max_bytes=250_000))
    held = []
    for number in range(8):  # each reader begins after another change, and reads no more
        held.append(lists.get("p/s"))
        leases.publish("p/s", "x0", ROW._replace(text=b"%d" % number), 0.0)
    lists.get("p/s")
    with pytest.raises(RpcError, match="too slowly") as raised:
        held[0].part(0)
    assert raised.value.code == Refusal.FULL
    assert held[-1].part(0).entries
    assert 0 < sum(each.size for each in held) <= 250_000


def test_old_lists_that_nobody_reads_are_gone() -> None:
    leases, lists = filled(10)
    for number in range(8):
        lists.get("p/s")
        leases.publish("p/s", "x0", ROW._replace(text=b"%d" % number), 0.0)
    lists.get("p/s")
    assert len(lists._old) <= 1
    assert len(lists._current) == 1


def test_current_lists_have_a_limit_too() -> None:
    leases, lists = filled(0, LeaseLimits(max_bytes=100_000))
    for number in range(10):
        leases.publish(f"p/s{number}", "x", ROW, 0.0)
        lists.get(f"p/s{number}")
    assert list(lists._current) == [f"p/s{number}" for number in range(6, 10)]
    assert lists._current_bytes <= 100_000
