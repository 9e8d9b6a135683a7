"""The network of namespaces is one: hosts reach each other, unless they are cut."""

import asyncio
import contextlib

import pytest

from tests.cluster.engines.netns import Net


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.write(await reader.readexactly(1))
        await writer.drain()
    writer.close()


async def _ask(address: str, within: float) -> bytes:
    async with asyncio.timeout(within):
        reader, writer = await asyncio.open_connection(address, 7000)
        try:
            writer.write(b"?")
            return await reader.read(1)
        finally:
            writer.close()


@pytest.mark.slow
def test_hosts_reach_each_other_unless_cut() -> None:
    with Net("one", "two", "three") as net, contextlib.ExitStack() as stack:
        loops = {name: stack.enter_context(net.loop(name)) for name in ("one", "two", "three")}
        server = loops["one"].run(asyncio.start_server(_answer, net.address("one"), 7000))
        where = net.address("one")
        assert loops["two"].run(_ask(where, 10)) == b"?"
        net.cut("one", "two")
        with pytest.raises(TimeoutError):
            loops["two"].run(_ask(where, 0.2))
        assert loops["three"].run(_ask(where, 10)) == b"?"
        net.cut("one")
        with pytest.raises(TimeoutError):
            loops["three"].run(_ask(where, 0.2))
        net.heal()
        assert loops["two"].run(_ask(where, 10)) == b"?"
        server.close()
