"""Cut the connection at every byte of every style of call: what arrived is right, or an error."""

import asyncio
import functools
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

import fastrpc
from fastrpc.testing import Cut, FaultPipe
from tests.adversity.flows import STYLES, WHOLE, Flows, connect, run
from tests.interop.styles import rest_of, settle, settled
from tests.server.serving import serving, target_of, use_twin

CALM = logging.getLogger("tests.calm")
CALM.setLevel(logging.CRITICAL)
pytestmark = [pytest.mark.asyncio, pytest.mark.slow]


async def measure(server: fastrpc.Server, style: str, direction: str) -> tuple[int, int]:
    """Return where in a direction the exchange begins, behind HELLO, and where it ends."""
    async with connect(server.targets[0]) as client:
        (lane,) = client.lanes

        def at() -> int:
            return int(lane.bytes_out if direction == "forward" else lane.bytes_in)

        begin = at()
        assert (await run(style, client)).end == WHOLE
        return begin, at()


@pytest.mark.parametrize("how", ["ended", "reset"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("style", STYLES)
async def test_a_cut_at_every_byte(
    style: str, direction: str, how: str, tmp_path: Path,
    twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    use_twin(monkeypatch, twin)
    scheme = "tcp" if how == "reset" else "mem"  # memory knows no resets
    flows = Flows()
    async with serving(flows, target_of(scheme, tmp_path), log=CALM) as server:
        begin, end = await measure(server, style, direction)
        assert end - begin > 20
        ends: list[str] = []
        # At every byte where that is quick. A reset takes with it what was not read yet, so it is
        # a matter of luck which byte it comes at: some will do.
        usual = type(asyncio.get_running_loop()).__module__.startswith("asyncio")
        step = 7 if how == "reset" else 5 if not usual else 1 if twin.COMPILED else 3
        script = [Cut(at, how == "reset") for at in range(begin + 1, end + 1, step)]
        async with FaultPipe(
            server.targets[0],
            forward=lambda number: script[number : number + 1] if direction == "forward" else (),
            backward=lambda number: script[number : number + 1] if direction == "backward" else (),
            at=target_of(scheme, tmp_path),
        ) as pipe:
            for _ in script:
                # One connection each: a second one would have a script of its own.
                async with connect(pipe.target, timeout=5.0) as client:
                    (lane,) = client.lanes
                    session = lane.owner
                    ends.append((await run(style, client)).end)
                    assert await settle(functools.partial(rest_of, session), 5.0) == {}
                assert pipe.connections == len(ends), "it dialled again for the same call"
        assert await settled([server]) == {}
        assert set(ends) <= {WHOLE, "ConnectionLost"}, set(ends)
        assert ends[0] == "ConnectionLost"
        for taken in flows.taken:
            taken.check()
