"""A real client and a real server with harm done to the bytes between them."""

import asyncio
import logging
from typing import Any

import pytest

import fastrpc
from fastrpc.testing import Cut, FaultPipe, Flip, Split, Stall, random_faults
from tests.adversity.raw_peer import RawPeer, call, hello_frame, pack
from tests.server.serving import serving, until

CALM = logging.getLogger("tests.calm")
pytestmark = pytest.mark.asyncio


class Work:
    """Calls whose answers can be checked."""

    def __init__(self) -> None:
        self.runs: list[int] = []

    def double(self, n: int, load: bytes = b"") -> list[Any]:
        self.runs.append(n)
        return [n, 2 * n, load]

    async def later(self, n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    async def wait(self) -> None:
        await asyncio.Event().wait()


async def ask(client: fastrpc.Client, n: int, size: int = 0) -> str:
    """Make one call and say how it ended; a wrong result is an assertion."""
    try:
        result = await client.call("Work.double", n, bytes(size))
    except fastrpc.FastRPCError as exc:
        return type(exc).__name__
    assert result == [n, 2 * n, bytes(size)]
    return "ok"


@pytest.mark.parametrize("size", [1, 7, 19])
async def test_pieces_of_any_size_make_no_difference(size: int) -> None:
    split = [Split(size)]
    async with (
        serving(Work(), log=CALM) as server,
        FaultPipe(server.targets[0], forward=split, backward=split) as pipe,
        fastrpc.connect(pipe.target) as client,
    ):
        calls = [ask(client, n, n * 37) for n in range(20)]
        assert set(await asyncio.gather(*calls)) == {"ok"}
        assert await client.call("Work.later", n=4) == 8


@pytest.mark.parametrize("reset", [False, True], ids=["ended", "reset"])
async def test_a_cut_at_every_byte_of_what_the_server_says(reset: bool) -> None:
    service = Work()
    async with serving(service, log=CALM) as server:
        # HELLO, then an answer of 100 bytes; the client dials anew each time.
        async with FaultPipe(
            server.targets[0], backward=lambda number: [Cut(number * 5, reset)]
        ) as pipe:
            ends = set()
            for n in range(130):
                client = fastrpc.connect(pipe.target, timeout=5.0)
                ends.add(await ask(client, n, 80))
                await client.aclose()
        await until(lambda: not server.stats().connections)
        assert ends == {"ok", "ConnectFailed", "ConnectionLost"}
        assert len(service.runs) == len(set(service.runs)), "a call was run twice"


@pytest.mark.parametrize("reset", [False, True], ids=["ended", "reset"])
async def test_a_cut_at_every_byte_of_what_the_client_says(reset: bool) -> None:
    service = Work()
    async with serving(service, log=CALM) as server:
        async with FaultPipe(
            server.targets[0], forward=lambda number: [Cut(number * 4, reset)]
        ) as pipe:
            ends = set()
            for n in range(110):
                client = fastrpc.connect(pipe.target, timeout=5.0)
                ends.add(await ask(client, n, 80))
                await client.aclose()
        await until(lambda: not server.stats().connections)
        assert ends == {"ok", "ConnectFailed", "ConnectionLost"}


async def test_a_peer_that_goes_at_every_byte_of_its_answers(quick_ticks: None) -> None:
    request = hello_frame() + b"".join(
        call(id, b"Work.double", pack([id, bytes(30)])) for id in range(1, 4)
    )
    async with serving(Work(), log=CALM) as server:
        async with await RawPeer.connect(server.targets[0]) as peer:
            peer.send(request)
            peer.writer.write_eof()
            whole = len(await peer.reader.read())
        for length in range(0, whole, 3):
            peer = await RawPeer.connect(server.targets[0])
            peer.send(request + call(4, b"Work.wait", pack([])))
            await peer.reader.readexactly(length)
            peer.writer.transport.abort()
        await until(lambda: not server.stats().connections)
        await until(lambda: not server.stats().running)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
async def test_harm_at_random_ends_in_typed_errors(seed: int) -> None:
    def script(number: int) -> Any:
        return random_faults(1000 * seed + number) if number < 4 else ()

    async with (
        serving(Work(), log=CALM, hello_timeout=1.0) as server,
        FaultPipe(server.targets[0], forward=script, backward=script) as pipe,
    ):
        for number in range(5):
            last = number == 4
            client = fastrpc.connect(
                pipe.target, timeout=5.0 if last else 0.08, connect_timeout=5.0 if last else 0.1
            )
            calls = [_outcome(client, n) for n in range(8)]
            outcomes = await asyncio.gather(*calls)
            await client.aclose()
        assert set(outcomes) == {"ok"}, "the way was free for the last one"


async def _outcome(client: fastrpc.Client, n: int) -> str:
    try:
        await client.call("Work.double", n, bytes(n * 40))
    except fastrpc.FastRPCError as exc:
        return type(exc).__name__
    return "ok"


async def test_a_flipped_bit_in_a_header_harms_one_connection_only() -> None:
    async with serving(Work(), log=CALM) as server:
        async with fastrpc.connect(server.targets[0], timeout=5.0) as honest:
            for bit in range(8):
                flip = [Flip(at=4, bit=bit)]  # the version in HELLO
                async with FaultPipe(server.targets[0], forward=flip) as pipe:
                    async with await RawPeer.connect(pipe.target) as peer:
                        peer.send(hello_frame())
                        assert [frame.status for frame in await peer.rest()] == [70]
                assert await ask(honest, bit) == "ok"


async def test_a_stalled_answer_costs_its_caller_the_deadline_and_nobody_else() -> None:
    async with serving(Work(), log=CALM) as server:
        honest = fastrpc.connect(server.targets[0], timeout=5.0)
        async with honest, FaultPipe(server.targets[0], backward=[Stall(400)]) as pipe:
            async with fastrpc.connect(pipe.target) as client:
                with pytest.raises(fastrpc.DeadlineExceeded):
                    await client.options(timeout=0.05).call("Work.double", 1, bytes(1000))
                assert await ask(honest, 1) == "ok"
                pipe.release()
                assert await ask(client, 2) == "ok"
