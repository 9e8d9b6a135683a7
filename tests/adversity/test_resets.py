"""Peers that are gone before they are accepted cost nothing, and nobody hears of them."""

import asyncio
import socket
import struct
from typing import Any

import pytest

import fastrpc
from tests.client.served import serving, sockets, turn_until

pytestmark = pytest.mark.asyncio
CROWD = 100


async def test_peers_that_reset_before_they_are_accepted(caplog: pytest.LogCaptureFixture) -> None:
    troubles: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, told: troubles.append(told))
    async with serving() as (server, _), fastrpc.connect(server.targets[0]) as client:
        assert await client.call("Work.add", 1, 2) == 3
        before = sockets()
        host, port = server.targets[0].removeprefix("tcp://").split(":")
        for _ in range(CROWD):  # without an await: the server sees none of them alive
            with socket.create_connection((host, int(port))) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert await client.call("Work.add", 1, 2) == 3
        await turn_until(lambda: sockets() <= before)
        assert await client.call("Work.add", 1, 2) == 3
    assert troubles == []
    assert caplog.text == ""
