"""Prometheus itself judges the metrics, and scrapes them."""

import asyncio
import json
import tempfile
from pathlib import Path

import pytest

import fastrpc
from tests.interop import observed
from tests.interop.programs import finished, free_port, need, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


async def served() -> tuple[fastrpc.Server, int]:
    """Return a server that was called in all ways, and its port."""
    server, orders = observed.server()
    orders.release.set()
    await server.start("tcp://127.0.0.1:0")
    async with fastrpc.connect(server.targets[0]) as client:
        for n in range(40):
            await client.call("Orders.price", "tea", n)
        await client.call("Orders.export", "x")
        await client.call("Stock.move", "tea", 1)
        for name, *args in (("Orders.price", ""), ("Stock.move", "tea", 0), ("Orders.gone",)):
            with pytest.raises(fastrpc.FastRPCError):
                await client.call(name, *args)
    return server, int(server.targets[0].rpartition(":")[2])


async def fetched(url: str) -> str:
    return await finished(need("curl"), "--silent", "--fail", url)


async def asked(query: str) -> dict[str, str]:
    """Return what Prometheus answers, by method."""
    told = json.loads(await fetched(query))
    return {each["metric"]["method"]: each["value"][1] for each in told["data"]["result"]}


@pytest.mark.asyncio
async def test_promtool_finds_nothing_to_say() -> None:
    need("promtool")
    server, port = await served()
    async with server:
        text = await fetched(f"http://127.0.0.1:{port}/metrics")
        assert 'fastrpc_calls_total{method="Orders.price"} 41.0' in text
        process = await asyncio.create_subprocess_exec(
            "promtool", "check", "metrics", stdin=-1, stdout=-1, stderr=-2
        )
        words, _ = await process.communicate(text.encode())
    assert (process.returncode, words.decode()) == (0, "")


@pytest.mark.asyncio
async def test_prometheus_scrapes_the_server_and_can_be_asked() -> None:
    program = need("prometheus")
    server, port = await served()
    with tempfile.TemporaryDirectory(prefix="prometheus-") as folder:
        config = Path(folder) / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
            "scrape_configs:\n"
            "  - job_name: fastrpc\n"
            f"    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
        )
        own = free_port()
        words = [
            program, f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{own}", "--log.level=error",
        ]  # fmt: skip
        async with server, running(*words, port=own):
            query = f"http://127.0.0.1:{own}/api/v1/query?query=fastrpc_calls_total"
            quantile = query.replace(
                "fastrpc_calls_total", "histogram_quantile(0.5,fastrpc_call_seconds_bucket)"
            )
            calls: dict[str, str] = {}
            halves: dict[str, str] = {}
            # Until a scrape has come through; one that is late, too, leaves nothing to be seen.
            while not (calls and halves):
                calls, halves = await asked(query), await asked(quantile)
    assert (calls["Orders.price"], calls["Stock.move"]) == ("41", "2")
    assert 0 < float(halves["Orders.price"]) < 1
