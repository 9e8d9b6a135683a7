"""Rules choose calls, the same ones each time, and refuse what makes no sense."""

from contextlib import suppress
from typing import Any

import pytest

import fastrpc
from fastrpc.errors import ConfigError
from fastrpc.testing import FakeClock, Faults, serving
from fastrpc.testing.faults import LOG_MAX, Deed, FaultKind


def chosen(faults: Faults, count: int, method: str = "Bank.get") -> list[int]:
    return [number for number in range(1, count + 1) if faults.fate(method)]


def test_the_nth_call() -> None:
    faults = Faults()
    faults.lose_reply("Bank.*", nth=(2, 5))
    assert chosen(faults, 8) == [2, 5]
    faults.clear()
    faults.lose_reply("Bank.get", nth=1)
    assert chosen(faults, 3, "Shop.get") == []
    assert chosen(faults, 3) == [1]


def test_a_share_of_the_calls_is_the_same_for_a_seed() -> None:
    def run(seed: int, *, beside: bool = False) -> list[int]:
        faults = Faults(seed)
        rule = faults.lose_reply("*", p=0.3)
        if beside:
            faults.delay("*", (0.0, 1.0), p=0.5)
        return [number for number in range(1000) if rule in faults.fate("A.b")]

    assert run(1) == run(1) == run(1, beside=True) != run(2)
    assert 230 < len(run(1)) < 370
    assert run(0, beside=True) == run(0)


def test_every_call_unless_told() -> None:
    faults = Faults()
    rule = faults.cut("*")
    assert chosen(faults, 3) == [1, 2, 3]
    with faults.off():
        assert chosen(faults, 3) == []
    assert (rule.seen, rule.chosen) == (3, 3)
    faults.is_on = False
    with faults.off():
        pass
    assert faults.is_on is False


def test_built_ins_are_left_alone_unless_named() -> None:
    faults = Faults()
    faults.lose_reply("*")
    assert faults.fate("fastrpc.describe") == []
    faults.lose_reply("fastrpc.*")
    assert len(faults.fate("fastrpc.describe")) == 1


def test_streams_are_not_doubled() -> None:
    faults = Faults()
    rule = faults.duplicate("*")
    assert faults.fate("A.b", is_stream=True) == []
    assert rule.seen == 0
    assert faults.fate("A.b") == [rule]


def test_places_and_waits_are_within() -> None:
    faults = Faults()
    anywhere, behind = faults.cut("*"), faults.cut("*", after=500)
    places = {anywhere.place(20) for _ in range(300)}
    assert (min(places), max(places)) == (1, 19)
    assert (behind.place(1000), behind.place(20)) == (500, 19)
    waits = [faults.delay("*", (0.25, 0.5)).wait() for _ in range(50)]
    assert 0.25 <= min(waits) < max(waits) <= 0.5


def test_what_never_came_to_anything_is_told() -> None:
    faults = Faults()
    used, unused = faults.lose_reply("A.*"), faults.lose_request("B.*", nth=3)
    faults.fate("A.b")
    assert faults.idle == [unused]
    faults.remove(used)
    assert faults.rules == [unused]


def test_the_report_says_seed_rules_and_deeds() -> None:
    faults = Faults(seed=9)
    faults.lose_reply("A.*", nth=1)
    faults.delay("B.*", 1.0, p=0.5)
    faults.fate("A.b")
    faults.note(Deed(FaultKind.LOSE_REPLY, "A.b", 3, 0, "mem://x", "why"))
    assert faults.report().splitlines() == [
        "Faults, seed 9:",
        "  <Rule A.* nth=[1]: reply lost, 1 of 1>",
        "  <Rule B.* p=0.5: delayed, 0 of 0>",
        "A.b: reply lost (why): call 3 of connection 0 to mem://x",
    ]


def test_the_log_has_a_limit() -> None:
    faults = Faults()
    for number in range(LOG_MAX + 5):
        faults.note(Deed(FaultKind.CUT, "A.b", number, 0, "mem://x"), is_different=True)
    assert (len(faults.log), faults.log[0].call, len(faults.different)) == (LOG_MAX, 5, LOG_MAX)


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("lose_reply", {"nth": 0}),
        ("lose_reply", {"nth": ()}),
        ("lose_reply", {"nth": True}),
        ("lose_reply", {"nth": 1, "p": 0.5}),
        ("lose_reply", {"p": 1.5}),
        ("lose_reply", {"p": float("nan")}),
        ("lose_request", {"methods": ""}),
        ("delay", {"seconds": -1.0}),
        ("delay", {"seconds": (2.0, 1.0)}),
        ("delay", {"seconds": 1.0, "of": "both"}),
        ("fail", {"after": float("inf")}),
        ("cut", {"after": -1}),
        ("cut", {"after": 1.5}),
    ],
)
def test_what_makes_no_sense_is_refused(method: str, given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        getattr(Faults(), method)(**{"methods": "*", **given})


class Counter:
    value = 0

    def add(self) -> int:
        self.value += 1
        return self.value

    def get(self) -> int:
        return self.value


def test_a_run_with_the_same_seed_is_the_same_run() -> None:
    async def scenario(faults: Faults) -> None:
        async with serving(Counter(), faults=faults, timeout=1.0) as client:
            for number in range(40):
                with suppress(fastrpc.DeadlineExceeded, fastrpc.ConnectionLost):
                    await client.call("Counter.add" if number % 2 else "Counter.get")

    def run(seed: int) -> list[tuple[object, ...]]:
        faults = Faults(seed)
        faults.duplicate("Counter.add", p=0.2)
        faults.lose_reply("Counter.get", p=0.2)
        faults.cut("*", p=0.05)
        FakeClock().run(scenario(faults))
        return [
            (each.kind, each.method, each.call, each.connection, each.detail) for each in faults.log
        ]

    first = run(1)
    assert {kind for kind, *_ in first} == {
        FaultKind.DUPLICATE,
        FaultKind.LOSE_REPLY,
        FaultKind.CUT,
    }
    assert first == run(1) != run(2)
