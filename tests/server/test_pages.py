"""Where pages are found."""

import pytest

from fastrpc.server.doors import DOORS
from fastrpc.server.pages import PAGES, page_at


@pytest.mark.parametrize(
    ("path", "prefix", "below"),
    [
        ("/debug/rpc", "/debug/rpc", ""),
        ("/debug/rpc/", "/debug/rpc", "/"),
        ("/debug/rpc/calls/5", "/debug/rpc", "/calls/5"),
        ("/metrics", "/metrics", ""),
        ("/healthz", "/healthz", ""),
    ],
)
def test_a_page_has_its_path_and_all_below(path: str, prefix: str, below: str) -> None:
    found = page_at(path)
    assert found is not None
    assert (found[0].prefix, found[1]) == (prefix, below)


@pytest.mark.parametrize("path", ["/", "/debug", "/debug/rpcs", "/metricsx", "/rpc", ""])
def test_other_paths_are_none(path: str) -> None:
    assert page_at(path) is None


def test_every_page_has_a_door_that_there_is() -> None:
    assert {place.door for place in PAGES.values()} <= set(DOORS)


@pytest.mark.parametrize("prefix", ["/healthz", "/readyz"])
def test_pages_of_ours_can_be_loaded(prefix: str) -> None:
    assert callable(PAGES[prefix].load())
