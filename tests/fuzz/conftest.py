"""Tell at the end on how many inputs the twins were compared."""

import pytest

from tests.frame.tally import Tally


def pytest_configure(config: pytest.Config) -> None:
    """Count in this process; with several processes, add up what each has counted."""
    if not config.pluginmanager.has_plugin("twins"):
        config.pluginmanager.register(Tally(config), "twins")
