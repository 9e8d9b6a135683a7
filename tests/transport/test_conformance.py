"""Every pipe of the house passes the checks that are made for users, too."""

from pathlib import Path

import pytest

from fastrpc.testing import TRANSPORT_CHECKS, check_transport


@pytest.fixture(params=["tcp4", "tcp6", "unix", "abstract", "mem"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "tcp4": "tcp://127.0.0.1:0",
        "tcp6": "tcp://[::1]:0",
        "unix": f"unix://{tmp_path}/socket",
        "abstract": f"unix://@fastrpc-{tmp_path.name}-{id(tmp_path)}",
        "mem": "mem://conformance",
    }[request.param]


@pytest.mark.asyncio
@pytest.mark.parametrize("check", TRANSPORT_CHECKS)
async def test_transport_conforms(target: str, check: str) -> None:
    await check_transport(target, only=check)
