"""Add up over all test processes what the twins were compared on."""

from typing import Any

import pytest

from tests.frame.twins import COMPARED, DIFFERENCES


class Tally:
    """A plug-in that prints the sums behind the test results."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_sessionfinish(self) -> None:
        """In a worker process: send the counts to the one that prints."""
        told = getattr(self._config, "workeroutput", None)
        if told is not None:
            told["twins"] = [dict(COMPARED), dict(DIFFERENCES)]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take the counts of a worker process."""
        for sums, counts in zip(
            (COMPARED, DIFFERENCES),
            getattr(node, "workeroutput", {}).get("twins", []),
            strict=False,
        ):
            sums.update(counts)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print a line for each kind of input, and the sum."""
        if not COMPARED:
            return
        terminalreporter.section("twins compared")
        for what, count in sorted(COMPARED.items()):
            terminalreporter.write_line(f"{count:>10,} {what}: {DIFFERENCES[what]} differences")
        total, wrong = COMPARED.total(), DIFFERENCES.total()
        terminalreporter.write_line(f"{total:>10,} inputs in all: {wrong} differences")
