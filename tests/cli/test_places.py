import asyncio
from collections.abc import Sequence

import pytest

from fastrpc.cli import places
from fastrpc.cli.places import list_instances, list_services, named_service, only_service
from fastrpc.cluster import Listing, MemoryRegistry, MemoryStore, parse_cluster
from fastrpc.errors import ConfigError, RegistryLost
from tests.cli.fleet import Fleet

pytestmark = pytest.mark.asyncio
WHERE = parse_cluster("registry://127.0.0.1:7070")


class Named(MemoryRegistry):
    """A registry with certain services, one of which can't be listed."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(MemoryStore())
        self.names = tuple(names)

    async def services(self) -> tuple[str, ...]:
        return self.names

    async def list(self, service: str) -> Listing:
        if service == "Broken":
            raise RegistryLost("not this one")
        return Listing(())


class Silent(Named):
    """A registry that never answers."""

    async def services(self) -> tuple[str, ...]:
        await asyncio.Event().wait()
        raise AssertionError

    async def list(self, service: str) -> Listing:
        await asyncio.Event().wait()
        raise AssertionError


async def test_what_a_target_names(fleet: Fleet) -> None:
    listing = await list_instances(fleet.service)
    assert listing is not None
    assert {each.addresses[0] for each in listing.instances} == set(fleet.addresses)
    assert await list_instances(fleet.registry) is None
    listing = await list_instances("127.0.0.1:7000")
    assert listing is not None
    assert [each.addresses for each in listing.instances] == [("tcp://127.0.0.1:7000",)]
    listing = await list_instances("static:tcp://a:1,tcp://b:2")
    assert listing is not None
    assert len(listing.instances) == 2


def _named(text: str) -> str:
    return named_service(parse_cluster(text))


async def test_some_registries_need_no_service() -> None:
    assert _named("registry://h/Shop") == "Shop"
    assert _named("registry://h") == _named("file:///x.toml") == ""
    assert _named("dns://h:1")
    assert _named("static:h:1,h:2")


async def test_the_only_service_is_meant() -> None:
    assert await only_service(WHERE, Named(["Shop"])) == "Shop"
    assert await only_service(parse_cluster("registry://h/Arith"), Named([])) == "Arith"
    with pytest.raises(ConfigError, match=r"no service is listed there"):
        await only_service(WHERE, Named([]))
    with pytest.raises(ConfigError, match=r"which service\? there are A, B$"):
        await only_service(WHERE, Named(["A", "B"]))
    with pytest.raises(ConfigError, match=r"s8, s9, \.\.\.$"):
        await only_service(WHERE, Named([f"s{number}" for number in range(11)]))


async def test_one_service_that_can_not_be_listed_hides_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(places, "open_registry", lambda where: Named(["Broken", "Shop"]))
    broken, shop = await list_services("registry://h")
    assert (broken.name, broken.problem) == ("Broken", "not this one")
    assert (shop.name, shop.instances, shop.problem) == ("Shop", 0, "")


async def test_a_silent_registry_is_not_waited_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "open_registry", lambda where: Silent([]))
    monkeypatch.setattr(places, "PATIENCE", 0.01)
    for asked in (
        list_services("registry://h"),
        list_instances("registry://h/Shop"),
        only_service(WHERE, Silent([])),
    ):
        with pytest.raises(RegistryLost, match=r"no answer within 0\.01 s"):
            await asked
