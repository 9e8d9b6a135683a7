"""Give pytest the fixtures rpc_server, rpc_cluster, rpc_faults and rpc_clock.

It stands beside the package and not in it: pytest loads plugins whenever it runs, and who
tests something else in the same environment shall not wait for `import fastrpc`. So all that
is done is done in `fastrpc.testing`, which is imported by the first test that asks for it.

All fixtures are plain ones. They need no plugin for asyncio and get along with any: what they
give is used within the test's own event loop, with `async with`, or with `rpc_clock.run`.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractAsyncContextManager

    from fastrpc import Client
    from fastrpc.testing import FakeClock, Faults, MemoryCluster

__all__ = ["rpc_clock", "rpc_cluster", "rpc_faults", "rpc_server"]

_FAULTS = "rpc_faults"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the seed be chosen that a failed run has told."""
    group = parser.getgroup("fastrpc")
    text = "Seed of the chance in rpc_faults (default: 0)."
    group.addoption("--rpc-seed", type=int, default=0, metavar="NUMBER", help=text)


@pytest.fixture
def rpc_faults(pytestconfig: pytest.Config) -> Faults:
    """What shall go wrong with calls of `rpc_server` and `rpc_cluster`; told if the test fails."""
    faults: Faults = _kit().Faults(pytestconfig.getoption("--rpc-seed"))
    return faults


@pytest.fixture
def rpc_server(rpc_faults: Faults) -> Callable[..., AbstractAsyncContextManager[Client]]:
    """Serve objects in memory, and have a client: `async with` what it returns."""
    return functools.partial(_kit().serving, faults=rpc_faults)


@pytest.fixture
def rpc_cluster(rpc_faults: Faults) -> Callable[..., MemoryCluster]:
    """Run a service as a cluster in memory: `async with` what it returns."""
    return functools.partial(_kit().MemoryCluster, faults=rpc_faults)


@pytest.fixture
def rpc_clock() -> FakeClock:
    """Have time in the hand: `rpc_clock.run(scenario())`."""
    clock: FakeClock = _kit().FakeClock()
    return clock


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a test that failed tell which faults its calls have met."""
    report = yield
    faults = getattr(item, "funcargs", {}).get(_FAULTS)
    if report.failed and faults is not None and faults.rules:
        report.sections.append(("fastrpc faults", faults.report()))
    return report


def _kit() -> Any:
    return import_module("fastrpc.testing")
