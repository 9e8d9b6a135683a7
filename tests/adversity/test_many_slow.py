"""Many peers that read nothing, each within its own limit: together they are bounded, too."""

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.adversity.raw_peer import RawPeer, call, pack
from tests.server.serving import serving, target_of, until, use_twin

MIB = 2**20
LOG = logging.getLogger("tests.many_slow")


class Large:
    """Results that take long to read."""

    def block(self, size: int) -> bytes:
        return bytes(size)

    async def later(self, size: int) -> bytes:
        await asyncio.sleep(0)
        return bytes(size)


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["unix", "mem"])  # where the kernel holds little
@pytest.mark.parametrize("method", [b"Large.block", b"Large.later"], ids=["sync", "async"])
async def test_many_that_never_read(
    scheme: str,
    method: bytes,
    tmp_path: Path,
    twin: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    use_twin(monkeypatch, twin)
    most = 0

    target = target_of(scheme, tmp_path)
    async with serving(Large(), target, log=LOG, max_unsent_total=8 * MIB) as server:
        assert server._side is not None
        sessions = server._hall

        def unsent() -> int:
            return sum(each.unsent() for each in sessions.sessions)

        honest = await RawPeer.greeted(server.targets[0])
        async with honest:
            peers = []
            for number in range(1, 11):  # one after the other, so that each turn adds little
                peer = await RawPeer.greeted(server.targets[0])
                peers.append(peer)
                peer.writer.transport.pause_reading()
                peer.send(*(call(id, method, pack([2 * MIB])) for id in range(1, 3)))
                await until(lambda n=number: server.stats().calls >= n)
                await until(lambda: not server.stats().running)
                most = max(most, unsent())
            assert 2 <= server.stats().connections <= 6  # some were cut off, others were not
            await until(lambda: unsent() <= 8 * MIB)
            for id in range(1, 4):
                honest.send(call(id, b"Large.later", pack([100])))
                assert (await honest.reply(id)).status == 0
            for peer in peers:
                peer.writer.transport.abort()
        assert most <= 8 * MIB + 2 * (2 * MIB + 100)
        await until(lambda: not server.stats().connections)
        unread = server._side.unread
        assert unread is not None
        assert (unread._total, unread._slow) == (0, {})
    lines = [record.getMessage() for record in caplog.records]
    told = [line for line in lines if "max_unsent_total of 8388608" in line]
    assert 1 <= len(told) <= 5, lines  # one a second from one host
