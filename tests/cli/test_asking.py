import socket

import pytest

import fastrpc
from fastrpc.cli.asking import HEALTH, Asker, Health, read_health, shown, single
from fastrpc.cluster import Instance
from fastrpc.errors import CodecError, ConfigError
from fastrpc.wire import StatusCode
from tests.client.scripted import Peer, scripted


def test_what_a_server_tells() -> None:
    server = fastrpc.Server()
    health = read_health(server.health())
    assert (health.state, health.limit, health.methods) == ("idle", 4096, {})
    more = {"state": "serving", "news": 1, "methods": {HEALTH: {"running": 1}}, "running": 1}
    assert read_health(more, 5) == Health(state="serving")  # the question itself is not told


@pytest.mark.parametrize("told", [None, 5, {}, {"state": 1}, {"state": "x", "running": "many"}])
def test_something_else_is_an_error(told: object) -> None:
    with pytest.raises(CodecError, match="something else"):
        read_health(told)


def test_nobody_makes_the_screen_overflow() -> None:
    methods = {f"m{number}\x1b[2J": {} for number in range(100)}
    health = read_health({"state": "s" * 1000, "methods": methods}, 7)
    assert health.state == "s" * 20
    assert next(iter(health.methods)) == "m0\\x1b[2J"
    assert len(health.methods) == 7
    assert shown("a\nb" + "c" * 500) == "a b" + "c" * 196 + "…"


def test_errors_are_those_that_are_not_the_callers_own() -> None:
    failures = {"application": 2, "cancelled": 5, "overloaded": 1}
    told = read_health({"state": "serving", "methods": {"A.b": {"failures": failures}}}, 5)
    assert told.methods["A.b"].errors == 3


def test_a_single_server_is_an_instance() -> None:
    assert single("127.0.0.1:7000").addresses == ("tcp://127.0.0.1:7000",)
    with pytest.raises(ConfigError):
        single("ftp://x")


@pytest.mark.asyncio
async def test_the_next_address_is_tried_the_next_time(target: str) -> None:
    asker = Asker(Instance(id="a", addresses=("unix:///nowhere/x.sock", target)), {}, 5.0)
    try:
        assert "nowhere" in str(await asker.ask())
        assert isinstance(asker.failure, fastrpc.ConnectFailed)
        health = await asker.ask(5)
        assert isinstance(health, Health)
        assert (asker.failure, asker.connections) == (None, 2)
        assert HEALTH not in health.methods
    finally:
        await asker.aclose()
        await asker.aclose()


@pytest.mark.asyncio
async def test_nobody_is_waited_for_longer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        asker = Asker(single(f"127.0.0.1:{deaf.getsockname()[1]}"), {}, 0.05)
        try:
            assert await asker.ask() == "no answer within 0.05 s"
            assert isinstance(asker.failure, fastrpc.DeadlineExceeded)
        finally:
            await asker.aclose()


def oddly(peer: Peer) -> None:
    """Say that there is no such method, as older servers do, and then nonsense."""
    peer.hello()
    peer.reply(peer.read_call(), b"", status=StatusCode.NOT_FOUND)
    peer.reply(peer.read_call())
    peer.until_end()


@pytest.mark.asyncio
async def test_servers_that_know_no_health() -> None:
    with scripted(oddly) as server:
        asker = Asker(single(server.target), {}, 5.0)
        try:
            assert await asker.ask() == "has no fastrpc.health"
            assert "with something else" in str(await asker.ask())
            assert isinstance(asker.failure, CodecError)
        finally:
            await asker.aclose()
