"""What Prometheus is told."""

import asyncio
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as classic

import fastrpc
from fastrpc.frame import Durations
from fastrpc.observe import prometheus
from fastrpc.observe.prometheus import BOUNDS, cumulative, metrics_page
from fastrpc.server.pages import PageRequest, PageResponse
from tests.server.serving import serving


class Work:
    def add(self, a: int, b: int) -> int:
        return a + b

    async def nap(self) -> None:
        await asyncio.sleep(0)

    def fail(self) -> None:
        raise ValueError("on purpose")


async def scraped(server: fastrpc.Server, accept: str = "") -> PageResponse:
    return await metrics_page(
        PageRequest(
            method="GET", path="", query={}, headers={"accept": accept}, body=b"",
            peer="tcp://127.0.0.1:1", hall=server.hall,
        )
    )  # fmt: skip


def samples(families: Any) -> dict[tuple[str, ...], float]:
    """Return each sample by its name and the values of its labels."""
    return {
        (each.name, *(each.labels[key] for key in sorted(each.labels))): each.value
        for family in families
        for each in family.samples
    }


async def called(server: fastrpc.Server) -> None:
    async with fastrpc.connect(server.targets[0]) as client:
        for _ in range(20):
            await client.call("Work.add", 1, 2)
        await client.call("Work.nap")
        for name in ("fail", "gone"):
            with pytest.raises(fastrpc.FastRPCError):
                await client.call(f"Work.{name}")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("accept", "parse"),
    [("", classic), ("application/openmetrics-text; version=1.0.0", open_metrics)],
    ids=["classic", "openmetrics"],
)
async def test_counters_gauges_and_histograms(accept: str, parse: Any) -> None:
    async with serving(Work()) as server:
        await called(server)
        response = await scraped(server, accept)
    assert (response.status, "openmetrics" in response.content_type) == (200, bool(accept))
    assert isinstance(response.body, bytes)
    told = samples(parse(response.body.decode()))
    assert told["fastrpc_calls_total", "Work.add"] == 20
    assert told["fastrpc_errors_total", "Work.fail", "server_error"] == 1
    assert told["fastrpc_calls_in_flight", "Work.nap"] == 0
    assert told["fastrpc_call_seconds_count", "Work.add"] == 2  # one in sixteen
    assert told["fastrpc_call_seconds_count", "Work.nap"] == 1
    assert told["fastrpc_call_seconds_bucket", "+Inf", "Work.add"] == 2
    assert told["fastrpc_call_seconds_sum", "Work.add"] > 0
    assert told["fastrpc_refused_total",] == 1
    assert told["fastrpc_connections_accepted_total",] == 1
    assert told["fastrpc_received_bytes_total",] > 0
    assert told["fastrpc_uptime_seconds",] >= 0
    assert [key for key in told if key[0] == "fastrpc_build_info"]
    # Peers can't make series: what is not registered has no label.
    assert not [key for key in told if "Work.gone" in key]


def test_classic_buckets_are_made_of_ours() -> None:
    durations = Durations()
    values = [3e-6, 8e-5, 8e-5, 2e-3, 0.3, 700.0]
    for each in values:
        durations.add(each)
    told = cumulative(durations.buckets())
    assert [bound for bound, _ in told] == [*map(repr, BOUNDS), "+Inf"]
    for bound, count in told:
        assert count == sum(each <= float(bound) for each in values)
    assert cumulative([])[-1] == ("+Inf", 0)


def test_a_bucket_counts_where_its_middle_is() -> None:
    assert cumulative([(0.9, 1.0, 5)], [0.94, 0.96]) == [("0.94", 0), ("0.96", 5), ("+Inf", 5)]


@pytest.mark.asyncio
async def test_without_the_client_library_the_page_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prometheus, "IS_INSTALLED", False)
    async with serving(Work()) as server:
        response = await scraped(server)
    assert response.status == 501
    assert b"pip install 'fastrpc[metrics]'" in response.body  # type: ignore[operator]
