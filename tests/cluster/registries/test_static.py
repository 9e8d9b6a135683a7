import pytest

from fastrpc.cluster import Listing, parse_cluster
from fastrpc.cluster.registries.static import SERVICE, StaticRegistry
from fastrpc.errors import ConfigError
from fastrpc.testing.registry import check_registry

TARGET = "static:tcp://10.0.0.1:7000,unix:///run/b.sock"


def make() -> StaticRegistry:
    return StaticRegistry(parse_cluster(TARGET))


@pytest.mark.asyncio
async def test_it_keeps_the_contract() -> None:
    await check_registry(make, service=SERVICE)


@pytest.mark.asyncio
async def test_each_target_is_an_instance_whatever_the_service() -> None:
    listing = await make().list("Arith")
    assert [each.addresses for each in listing.instances] == [
        ("tcp://10.0.0.1:7000",),
        ("unix:///run/b.sock",),
    ]
    assert await make().list("Words") == listing
    other = StaticRegistry(parse_cluster("static:unix:///run/b.sock"))
    assert (await other.list("Arith")).instances == listing.instances[1:]  # the same ids


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_ten_thousand_targets_have_ten_thousand_ids() -> None:
    text = "static:" + ",".join(f"tcp://10.0.{n // 256}.{n % 256}:7000" for n in range(10_000))
    listing: Listing = await StaticRegistry(parse_cluster(text)).list("Arith")
    assert len({each.id for each in listing.instances}) == 10_000


@pytest.mark.asyncio
async def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="service's name"):
        await make().list("a/b")
