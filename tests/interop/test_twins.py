"""A compiled client with a pure server and the reverse, each in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.served import Elsewhere
from tests.interop.talk import CODECS

ROOT = Path(__file__).parents[2]
TWINS = {"compiled": False, "pure": True}


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Elsewhere]]:
    with Elsewhere(pure=False) as compiled, Elsewhere(pure=True) as pure:
        yield {"compiled": compiled, "pure": pure}


def converse(target: str, codec: str, *, pure: bool) -> dict[str, Any]:
    command = [sys.executable, "-W", "error", "-m", "tests.interop.talk", target, codec]
    env = os.environ | {"FASTRPC_PURE": "1" if pure else "0"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.timeout(120)
@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "pickle"])
def test_each_twin_understands_the_other(servers: dict[str, Elsewhere], codec: str) -> None:
    told: dict[tuple[str, str], list[str]] = {}
    for client, pure in TWINS.items():
        for server, process in servers.items():
            answers = converse(process.target, codec, pure=pure)
            assert answers["compiled"] is (client == "compiled")
            if codec != "raw":
                assert answers["served by compiled"] is (server == "compiled")
            for way in ("asyncio", "uvloop", "blocking"):
                told[f"{way} {client}", server] = _steady(answers[way])
    first = told["asyncio compiled", "compiled"]
    assert len(first) > 8
    for who, lines in told.items():
        assert lines == first, who


def _steady(lines: list[str]) -> list[str]:
    """Leave out how often a server was told something: it is the same one each time."""
    return [line for line in lines if not line.startswith("was told")]
