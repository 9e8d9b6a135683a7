"""Play the whole list of hostile cases, and see that nobody else notices."""

import logging
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastrpc.frame import encode_frame
from tests.adversity.raw_peer import (
    CASES,
    LIMITS,
    Case,
    RawPeer,
    Victim,
    call,
    check,
    hello_frame,
)
from tests.server.serving import serving, target_of, use_twin

CALM = logging.getLogger("tests.calm")  # what a server says about its peers has a test of its own
CALM.setLevel(logging.CRITICAL)


async def beside(target: str, case: Case, size: int = 0) -> None:
    """Play *case* while an honest peer is on another connection of the same server."""
    async with await RawPeer.greeted(target) as honest:
        honest.send(call(1))
        await check(target, case, size)
        honest.send(call(2))
        assert [(await honest.reply(id)).payload for id in (1, 2)] == [b"\x05", b"\x05"]


def test_the_list_is_long_and_has_no_name_twice() -> None:
    assert len(CASES) >= 200
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.asyncio
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_each_case_has_its_answer(
    case: Case, twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_twin(monkeypatch, twin)
    async with serving(Victim(), log=CALM, **LIMITS) as server:
        await beside(server.targets[0], case)


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["tcp", "tcp6", "unix", "mem"])
async def test_one_server_outlives_the_whole_list(scheme: str, tmp_path: Path) -> None:
    async with serving(Victim(), target_of(scheme, tmp_path), log=CALM, **LIMITS) as server:
        for case in CASES:
            await beside(server.targets[0], case)
        assert server.stats().turned_away == 0


@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["tcp", "mem"])
async def test_the_same_in_pieces(
    scheme: str, twin: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_twin(monkeypatch, twin)
    async with serving(Victim(), target_of(scheme, tmp_path), log=CALM, **LIMITS) as server:
        for case in CASES:
            # Byte by byte, or a long one in some hundred pieces of odd sizes.
            await beside(server.targets[0], case, size=1 + len(case.send) // 300)


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(20))
async def test_bytes_harmed_at_random(
    seed: int, twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_twin(monkeypatch, twin)
    rng = random.Random(seed)
    frames = [call(n, arg=n % 3) for n in range(1, 20)]
    frames += [encode_frame(kind, 30 + kind, payload=b"x" * 40) for kind in range(16)]
    async with serving(Victim(), log=CALM, **LIMITS) as server:
        async with await RawPeer.greeted(server.targets[0]) as honest:
            for _ in range(10):
                data = bytearray(hello_frame() + b"".join(frames))
                for _ in range(rng.randint(1, 5)):
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                cut = rng.randrange(len(data))
                async with await RawPeer.connect(server.targets[0]) as peer:
                    peer.send(bytes(data[:cut]), bytes(data[cut:]))
                    peer.writer.write_eof()
                    await peer.rest()
            honest.send(call(1))
            assert (await honest.reply(1)).payload == b"\x05"


@pytest.mark.asyncio
async def test_a_peer_that_resets_at_any_point(
    twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_twin(monkeypatch, twin)
    whole = hello_frame() + call(1, arg=1) + call(2, b"", arg=1)
    async with serving(Victim(), log=CALM, **LIMITS) as server:
        for cut in range(len(whole)):
            peer = await RawPeer.connect(server.targets[0])
            peer.send(whole[:cut])
            peer.writer.transport.abort()
        async with await RawPeer.greeted(server.targets[0]) as honest:
            honest.send(call(1))
            assert (await honest.reply(1)).payload == b"\x05"
