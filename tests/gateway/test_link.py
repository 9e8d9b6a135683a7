"""A session behind a connection over which HTTP is spoken."""

import logging

import pytest

from fastrpc.gateway.http import HttpConnection
from fastrpc.gateway.link import Link
from tests.gateway.asking import asked, post
from tests.server.serving import until

CALM = logging.getLogger("tests.calm")


def visitor(server: "object") -> HttpConnection:
    (found,) = server._hall.admission.visitors  # type: ignore[attr-defined]
    assert isinstance(found, HttpConnection)
    return found


@pytest.mark.asyncio
async def test_the_session_of_a_connection_is_made_with_its_first_call() -> None:
    async with asked() as (server, _, asker):
        await asker.ask(post("/nowhere"))
        assert not visitor(server).links
        await asker.ask(post("/rpc/Arith.add", b"[1,2]"))
        await asker.ask(post("/rpc/Arith.add", b"[1,2]"))
        (link,) = visitor(server).links.values()
        assert isinstance(link, Link)
        assert link.bridge.session.lane.calls_in == 2
        assert link._calls == {}


@pytest.mark.asyncio
async def test_a_session_that_ends_answers_what_is_open() -> None:
    async with asked(log=CALM) as (server, service, asker):
        asker.send(post("/rpc/Arith.wait"))
        await until(lambda: service.ran)
        (link,) = visitor(server).links.values()
        link.bridge.session.close()
        response = await asker.answer()
        assert (response.status, response.error["ran"], response.closes) == (503, "maybe", True)
        await until(lambda: service.fate == "cancelled")


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["silent", "tick"])
async def test_a_session_that_ends_ends_a_stream(name: str) -> None:
    async with asked(log=CALM) as (server, _, asker):
        asker.send(post(f"/rpc/Arith.{name}"))
        await until(lambda: server.stats().running)
        if name == "tick":
            await asker.head()
            assert await asker.chunk() == b"1\n"
        (link,) = visitor(server).links.values()
        link.bridge.session.close()
        if name == "silent":
            assert (await asker.answer()).status == 503
        else:
            assert b"unavailable" in await asker.chunk()
            assert await asker.chunk() == b""


@pytest.mark.asyncio
async def test_a_session_that_ends_answers_json_rpc() -> None:
    async with asked(log=CALM) as (server, service, asker):
        asker.send(post("/jsonrpc", b'{"jsonrpc":"2.0","id":1,"method":"Arith.wait"}'))
        await until(lambda: service.ran)
        (link,) = visitor(server).links.values()
        link.bridge.session.close()
        assert (await asker.answer()).status == 503


@pytest.mark.asyncio
async def test_a_session_that_is_cut_off_cuts_the_connection() -> None:
    async with asked(log=CALM) as (server, service, asker):
        asker.send(post("/rpc/Arith.wait"))
        await until(lambda: service.ran)
        (link,) = visitor(server).links.values()
        link.bridge.session.abort(ConnectionError("cut"))
        await until(lambda: not server.stats().connections)


@pytest.mark.asyncio
async def test_a_session_that_finds_fault_says_so() -> None:
    async with asked(log=CALM) as (server, service, asker):
        asker.send(post("/rpc/Arith.wait"))
        await until(lambda: service.ran)
        (link,) = visitor(server).links.values()
        assert isinstance(link, Link)
        link.grant(1, 0)  # which nobody may
        link.grant(1, 2**31)
        link.bridge.feed(b"\xfa\x57\x00\x13" + bytes(16))
        response = await asker.answer()
        assert (response.status, response.closes) == (400, True)
        assert response.error["name"] == "protocol"
