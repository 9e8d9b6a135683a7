"""Who exists and who may be picked, with links that connect when the test says so."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

import fastrpc
from fastrpc.cluster import Balancer, ClusterOptions, Instance, InstanceState, fleet
from fastrpc.cluster.fleet import DIALS_MAX, REST, Fleet
from fastrpc.cluster.member import Member, MemberState
from fastrpc.policy import EjectionOptions, Standing

pytestmark = pytest.mark.asyncio


class FakeLane:
    """A lane that takes calls."""

    ready, crowded, peer_calls, table = True, False, 100, ()


class FakeLink:
    """A link that the test connects."""

    def __init__(self, lanes: list[Any], changed: Callable[[], None]) -> None:
        self._lanes = lanes
        self._changed = changed
        self.is_dialling = False
        self.ended = self.hurried = 0
        self.is_over = False

    def begin(self) -> None:
        self.is_dialling = True

    def up(self) -> None:
        self.is_dialling = False
        self.ended += 1
        self._lanes.append(FakeLane())
        self._changed()

    def down(self) -> None:
        self._lanes.clear()
        self._changed()

    def hurry(self) -> None:
        self.hurried += 1

    def retire(self) -> None:
        self.is_over = True


class Noted(Balancer):
    """A balancer that notes whom it may pick."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []

    def update(self, members: Any, now: float) -> None:
        self.told.append([member.instance.id for member in members])

    def pick(self, key: object, now: float, avoid: Any = ()) -> None:
        return None


class Rig:
    """A fleet with nothing real around it."""

    def __init__(self, **options: Any) -> None:
        self.balancer = Noted()
        self.lanes: list[Any] = []
        self.news = 0
        self.links: dict[str, FakeLink] = {}
        loop = asyncio.get_running_loop()
        self.fleet = Fleet(
            ClusterOptions(**options), self.balancer, self.lanes, loop, self._make, self._news, 1
        )

    def _make(self, member: Member) -> list[Any]:
        self.links[member.instance.id] = FakeLink(
            member.lanes, lambda: self.fleet.link_changed(member)
        )
        return [self.links[member.instance.id]]

    def _news(self) -> None:
        self.news += 1

    async def take(self, *ids: str, **fields: Any) -> None:
        """List instances, and connect to all that are dialled."""
        instances = [Instance(id=id, addresses=(f"tcp://{id}:1",), **fields) for id in ids]
        self.fleet.take(instances, time.monotonic())
        await asyncio.sleep(0)
        for link in self.links.values():
            if link.is_dialling:
                link.up()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def member(self, id: str) -> Member:
        return self.fleet.members[id]

    def __enter__(self) -> "Rig":
        return self

    def __exit__(self, *why: object) -> None:
        self.fleet.close()


async def test_the_balancer_knows_who_is_connected() -> None:
    with Rig() as rig:
        await rig.take("a", "b")
        assert rig.balancer.told[-1] == ["a", "b"]
        assert len(rig.lanes) == 2
        assert not rig.fleet.is_short
        rig.links["a"].down()
        await asyncio.sleep(0)
        assert rig.balancer.told[-1] == ["b"]
        assert rig.fleet.is_short


async def test_attempts_that_fail_are_not_worth_a_look_at_everybody() -> None:
    with Rig() as rig:
        await rig.take("a", "b")
        told, news = len(rig.balancer.told), rig.news
        rig.fleet.link_changed(rig.member("a"))
        await asyncio.sleep(0)
        assert (len(rig.balancer.told), rig.news) == (told, news + 1)


async def test_many_that_are_away_are_dialled_less_often() -> None:
    with Rig() as rig:
        await rig.take("a")
        assert rig.fleet.stretch() == 1.0
        many = [Instance(id=f"i{n}", addresses=(f"tcp://h{n}:1",)) for n in range(250)]
        rig.fleet.take(many, 0.0)
        rig.fleet.arrange(0.0)
        assert rig.fleet.stretch() == 2.5
        rig.fleet.take(
            [*many, *[Instance(id=f"j{n}", addresses=("mem://j",)) for n in range(900)]], 0
        )
        assert rig.fleet.stretch() == 4.0


async def test_changes_of_one_turn_are_told_once() -> None:
    with Rig() as rig:
        await rig.take("a", "b", "c")
        told = len(rig.balancer.told)
        for link in rig.links.values():
            link.down()
        await asyncio.sleep(0)
        assert len(rig.balancer.told) == told + 1
        assert rig.balancer.told[-1] == []


async def test_not_all_are_dialled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "STEPS_ASIDE", 3600.0)  # nobody does before the test says so
    with Rig() as rig:
        instances = [Instance(id=f"i{n}", addresses=(f"tcp://h{n}:1",)) for n in range(200)]
        rig.fleet.take(instances, 0.0)
        await asyncio.sleep(0)
        assert len(rig.links) == DIALS_MAX
        assert list(rig.links) != [f"i{n}" for n in range(DIALS_MAX)], "all begin with the same"
        next(iter(rig.links.values())).up()
        await asyncio.sleep(0)
        assert len(rig.links) == DIALS_MAX + 1
        # Those that hang give up their places.
        rig.fleet._dial(time.monotonic() + 3600.0)
        assert len(rig.links) == 2 * DIALS_MAX + 1
        await rig.take(*[f"i{n}" for n in range(3)])
        assert len(rig.fleet.members) == 3


async def test_who_is_listed_again_is_dialled_at_once() -> None:
    with Rig() as rig:
        await rig.take("a")
        rig.links["a"].down()
        await rig.take("a", weight=2.0)
        assert rig.links["a"].hurried == 1
        assert rig.member("a").weight == 2.0


async def test_who_leaves_is_forgotten_when_all_has_ended() -> None:
    with Rig() as rig:
        await rig.take("a", "b")
        gone = rig.member("a")
        gone.note(0.1, 1.0)
        await rig.take("b")
        assert gone.state(0.0) is MemberState.RETIRED
        assert rig.fleet.ended == 1
        rig.fleet._tick()
        assert cast("Any", rig.links["a"]) not in rig.fleet.links
        assert rig.fleet.ended == 1  # what it did is not forgotten


async def test_who_says_goodbye_is_not_picked() -> None:
    with Rig() as rig:
        await rig.take("a", "b")
        await rig.take("a", "b", state=InstanceState.DRAINING)
        assert rig.balancer.told[-1] == []
        assert rig.member("a").state(0.0) is MemberState.LEAVING


async def test_who_refuses_rests() -> None:
    with Rig() as rig:
        await rig.take("a", "b")
        now = time.monotonic()
        rig.fleet.failed(rig.member("a"), fastrpc.Overloaded("x", retry_after=9.0), now, now)
        await asyncio.sleep(0)
        assert rig.balancer.told[-1] == ["b"]
        assert rig.member("a").state(now) is MemberState.RESTING
        rig.fleet.arrange(now + 10.0)
        assert rig.balancer.told[-1] == ["a", "b"]
        rig.fleet.failed(rig.member("b"), fastrpc.Overloaded("x"), now, now)
        assert rig.member("b").rests_until == now + REST


async def test_if_all_rest_all_are_asked() -> None:
    with Rig() as rig:
        await rig.take("a", "b")
        now = time.monotonic()
        for id in "ab":
            error = fastrpc.Unavailable("x", retry_after=9.0)
            rig.fleet.failed(rig.member(id), error, now, now)
        await asyncio.sleep(0)
        assert rig.balancer.told[-1] == ["a", "b"]


async def test_who_fails_is_ejected_and_then_probed() -> None:
    with Rig(ejection=EjectionOptions(first=50.0)) as rig:
        await rig.take("a", "b", "c")
        member, now = rig.member("a"), time.monotonic()
        for _ in range(5):
            rig.fleet.failed(member, fastrpc.RemoteError("x"), now, now)
        await asyncio.sleep(0)
        assert rig.balancer.told[-1] == ["b", "c"]
        assert member.state(now) is MemberState.EJECTED
        assert rig.fleet._judge(member, now + 100.0)
        rig.fleet.arrange(now + 100.0)
        assert (member.standing, member.cap, member.latency) == (Standing.PROBED, 1, 0.0)
        rig.fleet.failed(member, fastrpc.RemoteError("x"), now, now + 100.0)
        assert member.standing is Standing.EJECTED


async def test_an_answer_of_the_application_is_an_answer() -> None:
    with Rig() as rig:
        await rig.take("a")
        rig.fleet.failed(rig.member("a"), fastrpc.RpcError(4, "no"), 1.0, 1.5)
        assert (rig.member("a").errors, rig.member("a").latency) == (0, 0.5)


async def test_a_broken_connection_is_one_fault_and_quick_to_fail_is_not_quick() -> None:
    with Rig() as rig:
        await rig.take("a")
        member = rig.member("a")
        member.note(0.5, 99.0)
        for _ in range(50):
            rig.fleet.failed(member, fastrpc.ConnectionLost("x", "maybe"), 99.9, 100.0)
        assert (member.errors, member.latency) == (1, 0.5)
        rig.fleet.failed(member, fastrpc.ConnectionLost("x", "maybe"), 100.9, 101.0)
        assert member.errors == 2


async def test_whoever_was_there_first_has_its_full_weight() -> None:
    with Rig(slow_start=100.0) as rig:
        await rig.take("a")
        await rig.take("a", "b")
        assert rig.member("a").weight == 1.0
        assert rig.member("b").weight == pytest.approx(0.1)


async def test_a_balancer_that_fails_takes_nobody_along(caplog: pytest.LogCaptureFixture) -> None:
    with Rig() as rig:

        def fail(members: Any, now: float) -> None:
            raise ZeroDivisionError

        rig.balancer.update = fail  # type: ignore[method-assign]
        news = rig.news
        await rig.take("a")
        assert rig.news > news
        assert len(rig.lanes) == 1
        assert "the balancer failed" in caplog.text


async def test_a_fleet_that_is_closed_changes_nothing() -> None:
    with Rig() as rig:
        await rig.take("a")
        told = len(rig.balancer.told)
        rig.fleet.close()
        rig.links["a"].down()
        await asyncio.sleep(0)
        assert len(rig.balancer.told) == told
        assert repr(rig.member("a")) == "<Member a tcp://a:1>"
