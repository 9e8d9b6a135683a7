"""CallTable: numbers rise, leave once, and are never used again."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from fastrpc.errors import ConfigError, ProtocolError
from fastrpc.wire import ID_MAX
from tests.frame.twins import COMPARED, open_twin


class Waiter:
    """Done when told so."""

    def __init__(self, done: bool = False) -> None:
        self.is_done = done

    def done(self) -> bool:
        return self.is_done


def test_an_empty_table(twin: SimpleNamespace) -> None:
    table = twin.CallTable()
    assert (len(table), table.next_id, table.soonest) == (0, 1, 0.0)
    assert table.take(1) is None
    assert table.expire(1e9) == []
    assert table.abandoned() == []
    assert table.drain() == []


def test_a_call_is_given_back_once_as_it_was(twin: SimpleNamespace) -> None:
    table = twin.CallTable(first=7)
    waiter, decode = Waiter(), bytes.hex
    assert table.open(waiter, decode, "Arith.add", 1.5, 2.5) == 7
    assert table.open(waiter) == 8
    assert len(table) == 2
    assert table.take(7) == (waiter, decode, "Arith.add", 1.5, 2.5)
    assert table.take(7) is None
    assert table.take(8) == (waiter, None, "", 0.0, 0.0)
    assert len(table) == 0


def test_arguments_have_names(twin: SimpleNamespace) -> None:
    table = twin.CallTable()
    id = table.open(waiter=None, decode=None, name="n", started=1.0, deadline=2.0)
    assert table.take(id=id) == (None, None, "n", 1.0, 2.0)
    table.open(None, deadline=1.0)
    assert table.drain(above=5) == []
    assert len(table.expire(now=1.0)) == 1


@pytest.mark.parametrize("id", [0, -1, 2, ID_MAX, ID_MAX + 1, 2**64, 2**70, -(2**70)])
def test_numbers_that_are_not_open_are_ordinary(twin: SimpleNamespace, id: int) -> None:
    table = twin.CallTable()
    table.open(None)
    assert table.take(id) is None
    assert len(table) == 1


@pytest.mark.parametrize("first", [0, -1, ID_MAX + 1, 2**64])
def test_the_first_number_must_be_one_that_can_be_sent(twin: SimpleNamespace, first: int) -> None:
    with pytest.raises(ConfigError, match=f"^first id must be 1 to {ID_MAX}, got {first}$"):
        twin.CallTable(first)


def test_numbers_end(twin: SimpleNamespace) -> None:
    table = twin.CallTable(ID_MAX - 2)
    assert [table.open(None), table.open(None)] == [ID_MAX - 2, ID_MAX - 1]
    for _ in range(2):
        with pytest.raises(ProtocolError, match="^the ids of this connection are used up$"):
            table.open(None)
    assert table.next_id == ID_MAX
    assert [id for id, _ in table.drain(ID_MAX - 2)] == [ID_MAX - 1]
    assert table.take(ID_MAX - 2) is not None


def test_the_last_number_of_all_can_be_the_first(twin: SimpleNamespace) -> None:
    with pytest.raises(ProtocolError):
        twin.CallTable(ID_MAX).open(None)


def test_deadlines_end_calls_in_the_order_of_their_numbers(twin: SimpleNamespace) -> None:
    table = twin.CallTable()
    for deadline in (5.0, 0.0, 3.0, 4.0, -1.0):
        table.open(None, deadline=deadline)
    assert table.soonest == -1.0
    assert [id for id, _ in table.expire(3.0)] == [3, 5]
    assert table.soonest == 4.0
    assert table.expire(3.9) == []
    assert [id for id, _ in table.expire(100.0)] == [1, 4]
    assert table.soonest == 0.0
    assert len(table) == 1


def test_soonest_may_be_of_a_call_that_is_gone(twin: SimpleNamespace) -> None:
    table = twin.CallTable()
    table.take(table.open(None, deadline=1.0))
    table.open(None, deadline=9.0)
    assert table.soonest == 1.0
    assert table.expire(2.0) == []
    assert table.soonest == 9.0
    assert len(table.drain()) == 1
    assert table.soonest == 0.0


def test_abandoned_ones_are_those_whose_waiter_is_done(twin: SimpleNamespace) -> None:
    table = twin.CallTable()
    waiters = [Waiter(done) for done in (True, False, True)]
    for waiter in waiters:
        table.open(waiter)
    assert table.abandoned() == [1, 3]
    assert table.abandoned() == []
    waiters[1].is_done = True
    assert table.abandoned() == [2]


def test_drain_takes_those_above(twin: SimpleNamespace) -> None:
    table = twin.CallTable()
    for _ in range(20):
        table.open(None)
    assert [id for id, _ in table.drain(above=17)] == [18, 19, 20]
    assert [id for id, _ in table.drain(-5)] == list(range(1, 18))


def test_many_calls_grow_the_table_and_keep_their_places(twin: SimpleNamespace) -> None:
    table = twin.CallTable()
    ids = [table.open(n) for n in range(3000)]
    for id in ids[::3]:
        assert table.take(id)[0] == id - 1
    ids += [table.open(n) for n in range(3000, 4000)]
    for id in ids:
        slot = table.take(id)
        assert (slot is None) == (id <= 3000 and id % 3 == 1)
        assert slot is None or slot[0] == id - 1
    assert len(table) == 0


def test_calls_that_stay_open_for_long_do_not_hinder_new_ones(twin: SimpleNamespace) -> None:
    table = twin.CallTable()
    old = [table.open("old") for _ in range(3)]
    for _ in range(1000):  # ids go round the table many times
        assert table.take(table.open("new"))[0] == "new"
    assert [table.take(id)[0] for id in old] == ["old"] * 3


class Meddler(Waiter):
    """A waiter whose `done` does things to the table."""

    def __init__(self, deed: Any) -> None:
        super().__init__(True)
        self.deed = deed

    def done(self) -> bool:
        self.deed()
        return True


def test_a_waiter_may_take_calls_while_it_is_asked(twin: SimpleNamespace) -> None:
    table = twin.CallTable()
    for _ in range(3):
        table.open(Meddler(lambda: table.take(2)))
    assert table.abandoned() == [1, 3]
    assert len(table) == 0


def test_a_waiter_may_make_calls_while_it_is_asked(twin: SimpleNamespace) -> None:
    table = twin.CallTable()
    ids = [table.open(Meddler(lambda: table.open(Waiter()))) for _ in range(4)]
    gone = table.abandoned()
    assert set(gone) <= set(ids)
    gone += table.abandoned()
    assert set(gone) >= set(ids)
    assert len(table) == table.next_id - 1 - len(gone)


class Table(RuleBasedStateMachine):
    """The table and a dict, told the same."""

    twin = "pure"
    calls = Bundle("calls")

    @initialize(first=st.sampled_from([1, 5, 2**32 - 3, ID_MAX - 300, ID_MAX - 6]))
    def begin(self, first: int) -> None:
        self.table = open_twin(self.twin).CallTable(first)
        self.model: dict[int, tuple[Any, ...]] = {}
        self.next = first
        self.soonest = 0.0

    @rule(
        target=calls,
        count=st.sampled_from([1, 1, 1, 2, 9]),
        name=st.sampled_from(["a", "b"]),
        deadline=st.sampled_from([0.0, 0.0, 1.0, 2.0, 5.0, 7.5]),
    )
    def open(self, count: int, name: str, deadline: float) -> Any:
        ids = []
        for _ in range(count):
            waiter = Waiter()
            args = (waiter, None, name, 0.5, deadline)
            if self.next >= ID_MAX:
                with pytest.raises(ProtocolError):
                    self.table.open(*args)
                continue
            assert self.table.open(*args) == self.next
            self.model[self.next] = args
            ids.append(self.next)
            self.next += 1
            if deadline and not 0 < self.soonest <= deadline:
                self.soonest = deadline
        return multiple(*ids)

    @rule(id=consumes(calls))
    def take(self, id: int) -> None:
        assert self.table.take(id) == self.model.pop(id, None)

    @rule(id=calls, off=st.sampled_from([0, 8, 16, 64, -8, 1000]))
    def take_one_that_may_share_its_place(self, id: int, off: int) -> None:
        assert self.table.take(id + off) == self.model.pop(id + off, None)

    @rule(now=st.sampled_from([0.5, 1.0, 2.0, 3.0, 7.5, 9.0]))
    def expire(self, now: float) -> None:
        late = []
        if self.soonest and self.soonest <= now:
            late = [(id, slot) for id, slot in sorted(self.model.items()) if 0 < slot[4] <= now]
            self._forget(late)
            self.soonest = min((slot[4] for slot in self.model.values() if slot[4]), default=0.0)
        assert self.table.expire(now) == late

    @rule(id=calls)
    def give_up(self, id: int) -> None:
        if id in self.model:
            self.model[id][0].is_done = True

    @rule()
    def abandoned(self) -> None:
        gone = [(id, slot) for id, slot in sorted(self.model.items()) if slot[0].is_done]
        self._forget(gone)
        assert self.table.abandoned() == [id for id, _ in gone]

    @rule(id=calls, off=st.integers(-5, 5))
    def drain(self, id: int, off: int) -> None:
        self._drain(id + off)

    @rule()
    def lose_the_connection(self) -> None:
        self._drain(0)

    def _drain(self, above: int) -> None:
        gone = [(id, slot) for id, slot in sorted(self.model.items()) if id > above]
        self._forget(gone)
        if not self.model:
            self.soonest = 0.0
        assert self.table.drain(above) == gone

    def _forget(self, gone: list[tuple[int, Any]]) -> None:
        for id, _ in gone:
            del self.model[id]

    @invariant()
    def both_count_alike(self) -> None:
        if hasattr(self, "table"):
            assert len(self.table) == len(self.model)
            assert (self.table.next_id, self.table.soonest) == (self.next, self.soonest)

    def teardown(self) -> None:
        if hasattr(self, "table"):
            COMPARED[f"call table histories, {self.twin} and a dict"] += 1
            for id, slot in sorted(self.model.items()):
                assert self.table.take(id) == slot


class CompiledTable(Table):
    twin = "compiled"


# Hypothesis makes the test case when it is asked for, so that the profile still counts.
TestPureTable = Table.TestCase
TestCompiledTable = pytest.mark.compiled(CompiledTable.TestCase)
TestPureTable.settings = TestCompiledTable.settings = settings(stateful_step_count=40)
