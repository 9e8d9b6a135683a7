"""JSON-RPC in the body of a POST."""

import gc
import json
import weakref

import pytest

from fastrpc.gateway.http import HttpConnection
from fastrpc.gateway.jsonposts import JsonLink
from tests.gateway.asking import asked, post
from tests.server.serving import until


def rpc(method: str, *params: object, id: object = 1) -> dict[str, object]:
    call = {"jsonrpc": "2.0", "method": method, "params": list(params)}
    return call if id is None else call | {"id": id}


def body(value: object, **headers: str) -> bytes:
    return post("/jsonrpc", json.dumps(value).encode(), **headers)


@pytest.mark.asyncio
async def test_calls_batches_and_notifications() -> None:
    async with asked() as (server, service, asker):
        assert (await asker.ask(body(rpc("Arith.add", 1, 2)))).json["result"] == 3
        batch = [rpc("Arith.add", 1, 2), rpc("Arith.nope", id=2), rpc("Arith.add", 5, 5, id=None)]
        answers = (await asker.ask(body(batch))).json
        assert [each.get("result") for each in answers] == [3, None]
        assert answers[1]["error"]["code"] == -32601
        response = await asker.ask(body(rpc("Arith.add", 1, 2, id=None)))
        assert (response.status, response.body) == (204, b"")
        await until(lambda: len(service.ran) == 4)
        assert len(server.peers) == 1


@pytest.mark.asyncio
async def test_errors_of_json_rpc_are_answers_of_http() -> None:
    async with asked() as (_, _, asker):
        response = await asker.ask(post("/jsonrpc", b"{"))
        assert (response.status, response.json["error"]["code"]) == (200, -32700)
        assert (await asker.ask(body(rpc("Arith.count", 3)))).json["error"]["code"] == -32047
        assert (await asker.ask(body(rpc("Arith.push")))).status == 200


@pytest.mark.asyncio
async def test_headers_are_metadata_and_time() -> None:
    async with asked() as (_, _service, asker):
        response = await asker.ask(body(rpc("Arith.told"), Authorization="Bearer x"))
        assert response.json["result"] == {"authorization": "Bearer x"}
        assert (await asker.ask(body(rpc("Arith.told")))).json["result"] == {}
        response = await asker.ask(body(rpc("Arith.wait"), fastrpc_timeout="0.02"))
        assert response.json["error"]["code"] == -32051


@pytest.mark.asyncio
async def test_who_hangs_up_takes_his_calls_along() -> None:
    async with asked() as (server, _service, asker):
        asker.send(body([rpc("Arith.wait", id=1), rpc("Arith.wait", id=2)]))
        await until(lambda: server.stats().running == 2)
        asker.writer.close()
        await until(lambda: not server.stats().running)


@pytest.mark.asyncio
async def test_nothing_of_who_is_gone_waits_for_the_garbage_collector() -> None:
    async with asked() as (server, _service, asker):
        gc.disable()
        try:
            asker.send(body([rpc("Arith.echo", "x" * 9000), rpc("Arith.wait", id=2)]))
            await until(lambda: server.stats().running == 1)
            (visitor,) = server._hall.admission.visitors
            assert isinstance(visitor, HttpConnection)
            (link,) = visitor.links.values()
            assert isinstance(link, JsonLink)
            left = [weakref.ref(each) for each in (link, link.tongue, link.bridge)]
            del visitor, link
            asker.writer.close()
            await until(lambda: all(each() is None for each in left))
        finally:
            gc.enable()
