"""Every style of call: codec by codec, over every transport, between both twins and both loops."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.client.served import SCHEMES, address
from tests.interop.styles import LOOPS, PLANS, Plan, blocking, converse, make_server, settled
from tests.server.serving import assert_nothing_left, use_twin

ROOT = Path(__file__).parents[2]
TWINS = ["pure"] if os.environ.get("FASTRPC_EXT") == "off" else ["compiled", "pure"]
ENDS = [(twin, loop) for twin in TWINS for loop in LOOPS]


#: What is wrapped in interceptors is wrapped alike over every transport: one will do.
WAYS = [*[(scheme, False) for scheme in SCHEMES], ("tcp", True)]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("scheme", "wrapped"),
    WAYS,
    ids=[f"{scheme}-{'wrapped' if wrapped else 'plain'}" for scheme, wrapped in WAYS],
)
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.codec)
async def test_in_one_process(
    plan: Plan, scheme: str, wrapped: bool, twin: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_twin(monkeypatch, twin)
    server = make_server(wrapped=wrapped)
    with address(scheme) as target:
        await server.start(target)
        try:
            assert await converse(server.targets[0], plan, wrapped=wrapped) == ""
            if scheme != "mem":  # which is within a loop
                await asyncio.to_thread(blocking, server.targets[0], plan)
            assert await settled([server]) == {}
        finally:
            await server.aclose(grace=0)
    assert_nothing_left(server)


class Elsewhere:
    """A server of one twin on one loop, in a process of its own."""

    def __init__(self, twin: str, loop: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rpc")
        self._process = subprocess.Popen(
            _command("serve", loop, self._folder.name),
            cwd=ROOT, env=_environment(twin), stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.targets: str = self._process.stdout.readline()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._folder.cleanup()


@pytest.fixture(scope="module", params=ENDS, ids="-".join)
def elsewhere(request: pytest.FixtureRequest) -> Iterator[tuple[str, Elsewhere]]:
    twin, loop = request.param
    server = Elsewhere(twin, loop)
    yield twin, server
    server.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("client", ENDS, ids="-".join)
def test_between_processes(elsewhere: tuple[str, Elsewhere], client: tuple[str, str]) -> None:
    twin, server = elsewhere
    done = subprocess.run(
        _command("talk", client[1], server.targets),
        cwd=ROOT, env=_environment(client[0]), capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, str] = json.loads(done.stdout)
    assert (told.pop("spoken by"), told.pop("served by")) == (client[0], twin)
    assert len(told) == len(PLANS) * 4 + 1
    assert {cell: words for cell, words in told.items() if words} == {}


def _command(*words: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "tests.interop.styles", *words]


def _environment(twin: str) -> dict[str, Any]:
    return os.environ | {"FASTRPC_PURE": "1" if twin == "pure" else "0"}
