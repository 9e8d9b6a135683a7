import pytest

from fastrpc.testing.registry import check_registry, registry_checks
from tests.cluster.registrars import registrar_scene


@pytest.mark.parametrize("name", registry_checks("publish", "expire", "poison"))
@pytest.mark.asyncio
async def test_it_keeps_the_contract(name: str) -> None:
    async with registrar_scene() as scene:
        await check_registry(scene.owner, only=name, expire=scene.expire, poison=scene.poison)
