import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import fastrpc
from fastrpc.cli import follow
from fastrpc.cli.asking import Health, single
from fastrpc.cli.follow import Follower, following
from fastrpc.cluster import Instance, InstanceState, MemoryRegistry, MemoryStore
from fastrpc.errors import ConfigError, RegistryLost
from tests.cli.fleet import Fleet

pytestmark = pytest.mark.asyncio
WAIT = 5.0


def follower(most: int = 200) -> Follower:
    return Follower({}, methods=50, patience=WAIT, most=most)


async def until(holds: Callable[[], bool], do: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await do()


async def test_one_server(target: str) -> None:
    here = follower()
    async with following(target, here), fastrpc.connect(target) as client:
        await here.round(WAIT)
        view = here.view()
        assert (view.answered, view.methods, view.instances[0].figures) == (1, {}, None)
        for _ in range(32):
            await client.call("Arith.add", 1)
        with pytest.raises(fastrpc.RpcError):
            await client.call("Arith.refuse")
        # At once it tells what it has told before.
        await until(lambda: "Arith.refuse" in here.view().methods, lambda: here.round(WAIT))
        view = here.view()
        add, refuse = view.methods["Arith.add"], view.methods["Arith.refuse"]
        assert add.calls > 0
        assert add.percentile(50) is not None
        assert refuse.errors == refuse.calls > 0
        assert view.total.calls == pytest.approx(sum(each.calls for each in view.methods.values()))
        assert view.instances[0].figures is not None


async def test_a_service_in_a_registry(fleet: Fleet) -> None:
    for target in (fleet.service, f"static:{','.join(fleet.addresses)}"):
        here = follower()
        async with following(target, here):
            await here.round(WAIT)
            assert (len(here.view().instances), here.view().answered) == (2, 2)
            assert here.failure is None
        assert here.view().instances == []


async def test_more_than_can_be_followed_are_counted(fleet: Fleet) -> None:
    here = follower(most=1)
    async with following(fleet.service, here):
        await here.round(WAIT)
        assert (len(here.view().instances), here.view().more) == (1, 1)


@pytest.mark.parametrize(
    ("target", "kind"),
    [("registry://127.0.0.1:1/Arith", RegistryLost), ("ftp://x", ConfigError)],
)
async def test_what_can_not_be_followed(target: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        async with following(target, follower()):
            raise AssertionError


async def test_which_service(fleet: Fleet) -> None:
    with pytest.raises(ConfigError, match="which service"):
        async with following(fleet.registry, follower()):
            raise AssertionError


async def test_instances_come_and_go(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    monkeypatch.setattr(follow, "open_registry", lambda where: MemoryRegistry(store))
    owner, here = MemoryRegistry(store), follower()
    first, second = (
        Instance(id=f"i{number}", addresses=(address,))
        for number, address in enumerate(fleet.addresses)
    )
    try:
        await owner.publish("Arith", first)
        async with following("registry://h/Arith", here):

            def known() -> list[tuple[str, str]]:
                return sorted(
                    (each.instance.id, each.instance.state.value) for each in here.view().instances
                )

            assert known() == [("i0", "up")]
            await owner.publish("Arith", second)
            await until(lambda: known() == [("i0", "up"), ("i1", "up")], lambda: here.round(WAIT))
            await owner.publish("Arith", first.with_state(InstanceState.DRAINING))
            await until(lambda: ("i0", "draining") in known(), lambda: here.round(WAIT))
            await owner.withdraw("Arith", "i0")
            await until(lambda: known() == [("i1", "up")], lambda: here.round(WAIT))
            assert here.view().answered == 1
    finally:
        await owner.aclose()


class Slow:
    """Stands for an instance that answers when it likes."""

    asked = 0
    closed = 0
    go_on: asyncio.Event

    def __init__(self, *_: Any) -> None:
        self.failure = None
        self.connections = 1

    async def ask(self, methods: int) -> Health | str:
        Slow.asked += 1
        await Slow.go_on.wait()
        return Health(state="serving", uptime=float(Slow.asked))

    async def aclose(self) -> None:
        Slow.closed += 1


async def test_who_owes_an_answer_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "Asker", Slow)
    Slow.asked = Slow.closed = 0
    Slow.go_on = asyncio.Event()
    here = follower()
    here.take([single("h:1")])
    for _ in range(3):
        await here.round(0.001)
    (row,) = here.view().instances
    assert (Slow.asked, row.health) == (1, None)
    assert row.problem.startswith("no answer for ")
    Slow.go_on.set()
    await here.round(WAIT)
    assert here.view().instances[0].problem == ""
    Slow.go_on.clear()
    await here.round(0.001)
    row = here.view().instances[0]  # late now, and what it said stays
    assert (Slow.asked, row.health is not None) == (2, True)
    assert row.problem.startswith("no answer for ")
    await here.aclose()
    await here.aclose()
    assert Slow.closed == 1
    assert len(asyncio.all_tasks()) == 1  # this test


async def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: Slow, methods: int) -> Health | str:
        raise ZeroDivisionError

    monkeypatch.setattr(follow, "Asker", Slow)
    monkeypatch.setattr(Slow, "ask", broken)
    here = follower()
    here.take([single("h:1")])
    with pytest.raises(ZeroDivisionError):
        await here.round(WAIT)
    await here.aclose()


async def test_another_place_is_asked_anew(fleet: Fleet) -> None:
    here = follower()
    here.take([Instance(id="a", addresses=("unix:///nowhere/x.sock",))])
    await here.round(WAIT)
    assert isinstance(here.failure, fastrpc.ConnectFailed)
    assert "nowhere" in here.view().instances[0].problem
    here.take([Instance(id="a", addresses=(fleet.addresses[0],))])
    await here.round(WAIT)
    assert here.view().answered == 1
    await here.aclose()
