"""A connection that was recorded and is sent once more runs nothing."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

import fastrpc
from fastrpc import policy
from tests.adversity.raw_peer import PATIENCE, RawPeer
from tests.server.serving import serving, until

CALM = logging.getLogger("tests.calm")


class Bank:
    def __init__(self) -> None:
        self.paid = 0

    def pay(self, amount: int) -> int:
        self.paid += amount
        return self.paid


@contextlib.asynccontextmanager
async def recorder(target: str, record: list[bytes]) -> AsyncIterator[str]:
    """Stand before the server at *target*, and note what a client says."""
    host, port = target.removeprefix("tcp://").split(":")
    ends: list[asyncio.StreamWriter] = []

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, noted: list[bytes]
    ) -> None:
        while data := await reader.read(65_536):
            noted.append(data)
            writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        ends.extend((writer, far_writer))
        await asyncio.gather(pump(reader, far_writer, record), pump(far_reader, writer, []))

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await until(lambda: ends and all(end.is_closing() for end in ends))


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["tcp", "http", "ws"])
async def test_a_recorded_connection_is_refused(scheme: str) -> None:
    bank, recorded = Bank(), list[bytes]()
    guard = policy.require_token({"ann": "a-long-secret"})
    async with serving(bank, log=CALM, interceptors=[guard]) as server:
        async with recorder(server.targets[0], recorded) as target:
            ann = [policy.bearer("a-long-secret")]
            async with fastrpc.connect(target.replace("tcp", scheme), interceptors=ann) as client:
                assert await client.call("Bank.pay", 10) == 10
        await until(lambda: not server.stats().connections)
        async with await RawPeer.connect(server.targets[0]) as peer:
            peer.send(b"".join(recorded))
            async with asyncio.timeout(PATIENCE):
                told = await peer.reader.read()
        assert b"its nonce was used before" in told
        assert bank.paid == 10
