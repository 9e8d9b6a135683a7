"""The fixtures work with an asyncio plugin and without, and cost nothing where nobody asks."""

import subprocess
import sys

import pytest

from tests.docs.pages import ROOT

pytest_plugins = ["pytester"]

SERVICE = """
import asyncio, pytest, fastrpc

class Bank:
    def __init__(self, number=0):
        self.balance = 0
    def add(self, amount: int) -> int:
        self.balance += amount
        return self.balance
"""
PLAIN = """
def test_server(rpc_server, rpc_faults):
    async def scenario():
        rpc_faults.lose_request("Bank.add", nth=1)
        async with rpc_server(Bank(), timeout=0.05) as client:
            with pytest.raises(fastrpc.DeadlineExceeded):
                await client.call("Bank.add", 1)
            assert await client.call("Bank.add", 1) == 1
    asyncio.run(scenario())

def test_cluster_in_virtual_time(rpc_cluster, rpc_clock):
    async def scenario():
        async with rpc_cluster(Bank, instances=2) as cluster:
            client = cluster.connect()
            await cluster.ready(client)
            cluster.kill(0)
            await asyncio.sleep(60.0)
            assert await client.call("Bank.add", 1) == 1
    rpc_clock.run(scenario())
"""
ASYNC = """
@pytest.mark.asyncio
async def test_server(rpc_server):
    async with rpc_server(Bank()) as client:
        assert await client.call("Bank.add", 1) == 1

@pytest.mark.asyncio
async def test_cluster(rpc_cluster):
    async with rpc_cluster(Bank) as cluster:
        assert await cluster.connect().call("Bank.add", 1) == 1
"""
FAILS = """
def test_it(rpc_server, rpc_faults):
    async def scenario():
        rpc_faults.lose_reply("Bank.*", p=1.0)
        async with rpc_server(Bank(), timeout=0.05) as client:
            await client.call("Bank.add", 1)
    asyncio.run(scenario())

def test_without_faults(rpc_faults):
    assert rpc_faults.rules
"""
ARGS = ("-p", "fastrpc_pytest", "-p", "no:cacheprovider", "-W", "error", "-q")


@pytest.mark.slow
def test_without_a_plugin_for_asyncio(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SERVICE + PLAIN)
    pytester.runpytest_inprocess(*ARGS, "-p", "no:asyncio").assert_outcomes(passed=2)


@pytest.mark.slow
def test_with_pytest_asyncio(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SERVICE + ASYNC)
    options = ("-o", "asyncio_default_fixture_loop_scope=function")
    pytester.runpytest_inprocess(*ARGS, *options).assert_outcomes(passed=2)


@pytest.mark.slow
def test_a_test_that_fails_tells_its_faults_and_their_seed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SERVICE + FAILS)
    result = pytester.runpytest_inprocess(*ARGS, "-p", "no:asyncio", "--rpc-seed=41")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "*fastrpc faults*",
            "Faults, seed 41:",
            "*Rule Bank.* p=1: reply lost, 1 of 1*",
            "Bank.add: reply lost: call 1 of connection 0 to mem://serving-*",
        ]
    )
    assert result.stdout.str().count("fastrpc faults") == 1


def test_the_fixtures_are_told(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess(*ARGS, "-p", "no:asyncio", "--fixtures")
    for name in ("rpc_server", "rpc_cluster", "rpc_faults", "rpc_clock"):
        result.stdout.fnmatch_lines([f"{name} -- *"])


@pytest.mark.slow
def test_who_does_not_ask_does_not_import_fastrpc() -> None:
    probe = (
        "import sys, fastrpc_pytest\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'fastrpc'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "[]\n"
