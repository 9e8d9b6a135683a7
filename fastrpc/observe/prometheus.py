"""Give the facts to Prometheus, in its text format or in OpenMetrics.

The official client library writes them; nothing is counted for it, all figures are taken
from the snapshot when somebody scrapes.

Rules of the room:
  * a label's values are few: registered methods, statuses, doors, workers;
  * what is a counter never falls while the server lives, whichever worker is asked and
    whichever have left.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, final

from fastrpc.observe.facts import Facts, MethodFacts
from fastrpc.observe.workers import look_at_all
from fastrpc.server.pages import PageRequest, PageResponse

try:
    from prometheus_client import CollectorRegistry, exposition
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ImportError:  # the extra is not installed; then the page says so
    IS_INSTALLED = False
else:
    IS_INSTALLED = True

#: Upper bounds of the buckets that are told, in seconds.
BOUNDS: Final = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip

_MISSING: Final = b"metrics need the Prometheus client: pip install 'fastrpc[metrics]'\n"
_PLAIN: Final = "text/plain; charset=utf-8"


async def metrics_page(request: PageRequest) -> PageResponse:
    """Answer a scrape."""
    if not IS_INSTALLED:
        return PageResponse(status=501, content_type=_PLAIN, body=_MISSING)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FactsCollector(await look_at_all(request.hall)))
    encode, content_type = exposition.choose_encoder(request.headers.get("accept", ""))
    headers = (("Cache-Control", "no-store"),)
    return PageResponse(content_type=content_type, body=encode(registry), headers=headers)


def cumulative(
    buckets: Iterable[tuple[float, float, int]], bounds: Iterable[float] = BOUNDS
) -> list[tuple[str, float]]:
    """Return how many durations were not over each bound, as Prometheus has them.

    A bucket of ours that a bound divides counts where its middle is.
    """
    left = sorted(buckets, reverse=True)
    told: list[tuple[str, float]] = []
    seen = 0
    for bound in bounds:
        while left and (left[-1][0] + left[-1][1]) / 2 <= bound:
            seen += left.pop()[2]
        told.append((repr(bound), seen))
    return [*told, ("+Inf", seen + sum(count for _, _, count in left))]


if TYPE_CHECKING or IS_INSTALLED:

    @final
    class FactsCollector(Collector):
        """Makes metrics of one snapshot.

        Args:
            facts: The snapshot.
        """

        def __init__(self, facts: Facts) -> None:
            self._facts = facts

        def collect(self) -> Iterator[Metric]:
            """Yield all metrics."""
            yield from _of_server(self._facts)
            yield from _of_methods(self._facts.methods)
            if self._facts.workers:
                yield from _of_workers(self._facts)

    def _of_server(facts: Facts) -> Iterator[Metric]:
        server, lag = facts.server, facts.lag
        labels = {
            "version": server.agent.rpartition("/")[2],
            "python": server.python,
            "loop": server.loop,
            "compiled": str(server.is_compiled).lower(),
        }
        info = GaugeMetricFamily("fastrpc_build_info", "What runs.", labels=list(labels))
        info.add_metric(list(labels.values()), 1)
        yield info
        doors = GaugeMetricFamily(
            "fastrpc_connections", "Connections that are open.", labels=["door"]
        )
        for door, count in sorted(facts.doors.items()):
            doors.add_metric([door], count)
        yield doors
        yield _gauge("fastrpc_uptime_seconds", "Time since the start.", server.uptime)
        yield _gauge("fastrpc_unsent_bytes", "Bytes that wait for peers to read.", server.unsent)
        yield _gauge("fastrpc_loop_lag_seconds", "How late the last slow tick came.", lag.last_tick)
        yield _counter("fastrpc_late_ticks", "Slow ticks over a second late.", lag.late_ticks)
        yield _counter("fastrpc_connections_accepted", "Connections made.", server.accepted)
        yield _counter(
            "fastrpc_connections_turned_away", "Connections refused by a limit.", server.turned_away
        )
        yield _counter("fastrpc_refused", "Calls answered without a handler.", server.refused)
        yield _counter("fastrpc_received_bytes", "Bytes of frames read.", server.bytes_in)
        yield _counter("fastrpc_sent_bytes", "Bytes of frames written.", server.bytes_out)

    def _of_workers(facts: Facts) -> Iterator[Metric]:
        yield _gauge("fastrpc_workers_wanted", "Workers that should serve.", facts.workers_wanted)
        states = GaugeMetricFamily("fastrpc_workers", "Workers by state.", labels=["state"])
        count = Counter(worker.state for worker in facts.workers)
        for state in ("starting", "serving", "draining", "silent"):
            states.add_metric([state], count[state])
        yield states
        yield _counter(
            "fastrpc_worker_restarts", "Workers started because one had died.", facts.restarts
        )
        each = GaugeMetricFamily(
            "fastrpc_worker_connections", "Connections of each worker.", labels=["worker"]
        )
        for worker in facts.workers:
            each.add_metric([str(worker.worker)], worker.connections)
        yield each

    def _of_methods(methods: Iterable[MethodFacts]) -> Iterator[Metric]:
        calls = CounterMetricFamily("fastrpc_calls", "Calls taken.", labels=["method"])
        errors = CounterMetricFamily(
            "fastrpc_errors", "Calls that did not end well.", labels=["method", "status"]
        )
        running = GaugeMetricFamily(
            "fastrpc_calls_in_flight", "Calls whose handlers have not ended.", labels=["method"]
        )
        seconds = HistogramMetricFamily(
            "fastrpc_call_seconds",
            "How long handlers took; of plain calls one in sixteen is timed.",
            labels=["method"],
        )
        for method in methods:
            calls.add_metric([method.name], method.calls)
            running.add_metric([method.name], method.running)
            for status, count in sorted(method.failures.items()):
                errors.add_metric([method.name, status], count)
            if method.timed:
                seconds.add_metric([method.name], cumulative(method.buckets), method.total)
        yield from (calls, errors, running, seconds)

    def _gauge(name: str, words: str, value: float) -> Metric:
        return GaugeMetricFamily(name, words, value=value)

    def _counter(name: str, words: str, value: float) -> Metric:
        return CounterMetricFamily(name, words, value=value)
