"""What tests of every room may ask for, and the rules all of them keep.

* `twin`: the names of the compiled twin, then of the pure one: `twin.FrameDecoder`, `twin.Lane`.
* `loop_factory`: makes asyncio's event loop, then uvloop's, for tests that run loops
  themselves. A test marked `asyncio` needs nothing: it runs on both anyway, unless it names
  one in `@pytest.mark.asyncio(loop_factories=["asyncio"])`.
* FASTRPC_EXT=off: the pure twin alone; tests marked `compiled` are not collected.
* FASTRPC_NO_SKIPS=1: a skip is a failure, unless `ALLOWED_SKIPS` has it with a reason.
* Hypothesis profiles: `house` (default, the same examples each time) and `fuzz` (random,
  FASTRPC_EXAMPLES examples). A test that sets max_examples itself leaves the profile's.
"""

import asyncio
import os
from collections.abc import Callable, Generator, Mapping
from types import SimpleNamespace

import hypothesis
import pytest
import uvloop

from tests.frame.twins import MODULES, open_twin

PURE_ONLY = os.environ.get("FASTRPC_EXT", "") == "off"
NO_SKIPS = os.environ.get("FASTRPC_NO_SKIPS", "") == "1"

#: Beginning of a test's id -> why it may be skipped in CI.
ALLOWED_SKIPS: dict[str, str] = {}

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, LoopFactory] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
TWINS = {"pure": MODULES["pure"]} if PURE_ONLY else dict(reversed(MODULES.items()))

hypothesis.settings.register_profile(
    "house", deadline=None, derandomize=True, database=None, print_blob=True
)
hypothesis.settings.register_profile(
    "fuzz",
    deadline=None,
    max_examples=int(os.environ.get("FASTRPC_EXAMPLES", "20000")),
    suppress_health_check=list(hypothesis.HealthCheck),
    print_blob=True,
)
hypothesis.settings.load_profile("house")


@pytest.fixture(scope="session", params=TWINS)
def twin(request: pytest.FixtureRequest) -> SimpleNamespace:
    """Open one twin: the public names of its modules, `name`, and `COMPILED`.

    A compiled twin that is missing is an error, never a skip.
    """
    return SimpleNamespace(**vars(open_twin(request.param)), COMPILED=request.param == "compiled")


@pytest.fixture(scope="session", params=LOOPS.values(), ids=LOOPS.keys())
def loop_factory(request: pytest.FixtureRequest) -> LoopFactory:
    """Give what makes an event loop, for asyncio.Runner(loop_factory=...)."""
    factory: LoopFactory = request.param
    return factory


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, LoopFactory]:
    """Run every asyncio test on both loops."""
    return LOOPS


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs the compiled twin when there is to be none."""
    if not PURE_ONLY:
        return
    dropped = [item for item in items if item.get_closest_marker("compiled")]
    if dropped:
        items[:] = [item for item in items if item not in dropped]
        config.hook.pytest_deselected(items=dropped)


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not (NO_SKIPS and report.skipped) or hasattr(report, "wasxfail"):
        return
    if any(report.nodeid.startswith(listed) for listed in ALLOWED_SKIPS):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"skipped, and skips are failures here: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one where skips are not allowed."""
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Do the same for a whole module that skips itself."""
    report = yield
    _refuse_skip(report)
    return report
