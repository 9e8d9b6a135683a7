"""`import fastrpc` brings what a service needs and nothing else."""

import json
import subprocess
import sys

import pytest

# The command line's, the optional extras', and modules that have no business in a server.
STRANGERS = {
    "click",
    "rich",
    "numpy",
    "matplotlib",
    "lz4",
    "backports.zstd",
    "compression.zstd",
    "psutil",
    "pytest",
    "hypothesis",
    "fastrpc.cli",
    "fastrpc.testing",
    "http.server",
    "h11",
    "websockets",
    "prometheus_client",
    "fastrpc.gateway",
    "fastrpc.observe",
    "multiprocessing",
    "unittest",
    "xml",
}
PROBE = """
import sys
before = set(sys.modules)
import fastrpc
import json
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.fixture(scope="module")
def brought() -> set[str]:
    """Import fastrpc in a fresh interpreter; tell which modules that loaded."""
    result = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=20
    )
    return set(json.loads(result.stdout))


@pytest.mark.slow
def test_import_brings_no_strangers(brought: set[str]) -> None:
    assert sorted(STRANGERS & brought) == []


@pytest.mark.slow
def test_import_brings_the_house(brought: set[str]) -> None:
    assert {"fastrpc", "fastrpc.errors", "fastrpc.frame"} <= brought


@pytest.mark.slow
def test_import_does_not_open_pickle_itself() -> None:
    """Others may load pickle; we must not be the ones who do."""
    probe = (
        "import asyncio, sys, dataclasses, decimal, uuid, typing, socket, ssl, logging\n"
        "import msgspec, msgpack, uvloop\n"
        "known = 'pickle' in sys.modules\n"
        "import fastrpc\n"
        "print(known, 'pickle' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=20
    )
    known, after = result.stdout.split()
    assert known == after
