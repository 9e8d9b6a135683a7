"""Check the byte pipe over WebSocket: it conforms, and what is its own."""

import pytest

from fastrpc.testing import TRANSPORT_CHECKS, check_transport
from tests.transport.websocket_ends import dial_pipe, listen_pipe


@pytest.mark.asyncio
@pytest.mark.parametrize("check", TRANSPORT_CHECKS)
@pytest.mark.parametrize("target", ["tcp://127.0.0.1:0", "mem://websocket-conformance"])
async def test_transport_conforms(target: str, check: str) -> None:
    await check_transport(target, only=check, dial=dial_pipe, listen=listen_pipe)
