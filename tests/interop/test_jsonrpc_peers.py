"""JSON-RPC 2.0 with jayson, an npm package: client and server over TCP, HTTP and WebSocket."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import fastrpc
from tests.interop.node import node_modules, run_node_json
from tests.interop.programs import free_port, need, running
from tests.interop.served import serving

pytestmark = [
    pytest.mark.asyncio(loop_factories=["asyncio"]),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

CLIENT = """
import jayson from 'jayson/promise/index.js';
import WebSocket from 'ws';

const [how, port] = process.argv.slice(1);
const host = '127.0.0.1';
const make = {
  tcp: () => jayson.Client.tcp({host, port: +port}),
  http: () => jayson.Client.http({host, port: +port, path: '/jsonrpc'}),
  websocket: () => jayson.Client.websocket({ws: new WebSocket(`ws://${host}:${port}/`, ['jsonrpc'])}),
};
const client = make[how]();
if (how === 'websocket') await new Promise((ok) => client.ws.on('open', ok));

const out = {};
out.add = await client.request('Arith.add', [2, 3]);
out.named = await client.request('Arith.add', {b: 4, a: 3});
out.echo = await client.request('Arith.echo', [{a: [1, null, 'é']}]);
out.fail = await client.request('Arith.fail', ['no']);
out.nothing = await client.request('nothing', []);
out.wrong = await client.request('Arith.add', ['x', 1]);
const silent = client.request('Arith.note', ['told'], null);  // an id of null is a notification there
if (how === 'http') await silent;
if (how !== 'websocket') {  // its WebSocket client matches answers by id, and batches have none
  out.batch = await client.request([
    client.request('Arith.add', [1, 1], undefined, false),
    client.request('Arith.later', [1, 2], undefined, false),
    client.request('nothing', [], undefined, false),
  ]);
}
out.many = (await Promise.all(
  Array.from({length: 50}, (_, n) => client.request('Arith.later', [n, 1])),
)).map((answer) => answer.result);
out.notes = (await client.request('Arith.notes', [])).result;
out.large = (await client.request('Arith.echo', ['x'.repeat(300000)])).result.length;
console.log(JSON.stringify(out));
process.exit(0);
"""


def jayson() -> Path:
    return node_modules("jayson@5.0.0", "ws@8")


@pytest.mark.parametrize("how", ["tcp", "http", "websocket"])
async def test_jayson_calls_us(how: str) -> None:
    folder = await asyncio.to_thread(jayson)
    async with serving() as (port, arith, _):
        got: dict[str, Any] = await run_node_json(CLIENT, how, str(port), cwd=folder)
    assert (got["add"]["result"], got["named"]["result"]) == (5, 7)
    assert got["add"]["jsonrpc"] == "2.0"
    assert got["echo"]["result"] == {"a": [1, None, "é"]}
    assert got["fail"]["error"]["code"] == 1001
    assert got["fail"]["error"]["data"]["data"] == {"why": "asked for"}
    assert (got["nothing"]["error"]["code"], got["wrong"]["error"]["code"]) == (-32601, -32602)
    assert got["many"] == list(range(1, 51))
    assert got["notes"] == arith.noted == ["told"]
    assert got["large"] == 300_000
    if how != "websocket":
        answers = sorted(answer.get("result", 0) for answer in got["batch"])
        assert answers == [0, 2, 3]


SERVER = """
import jayson from 'jayson';

const server = new jayson.Server({
  add: (args, callback) => callback(null, Array.isArray(args) ? args[0] + args[1] : args.a + args.b),
  echo: (args, callback) => callback(null, args[0]),
  fail: (args, callback) => callback({code: 1001, message: 'broken', data: {why: 'asked for'}}),
  odd: (args, callback) => callback({code: -32000, message: 'odd'}),
  slow: (args, callback) => setTimeout(() => callback(null, 1), 200),
});
server.tcp().listen(+process.argv[1], '127.0.0.1');
"""


async def test_we_call_jayson() -> None:
    folder = await asyncio.to_thread(jayson)
    port = free_port()
    words = (need("node"), "--input-type=module", "-e", SERVER, str(port))
    async with running(*words, port=port, cwd=folder):
        async with fastrpc.connect(f"jsonrpc://127.0.0.1:{port}", timeout=10) as client:
            assert await client.call("add", 2, 3) == 5
            assert await client.call("add", a=3, b=4) == 7
            value = {"a": [1, None, "é" * 100_000]}
            assert await client.call("echo", value) == value
            asked = [client.call("add", number, 1) for number in range(100)]
            assert await asyncio.gather(*asked) == list(range(1, 101))
            with pytest.raises(fastrpc.RpcError, match="broken") as caught:
                await client.call("fail")
            assert (caught.value.code, caught.value.data) == (1001, {"why": "asked for"})
            with pytest.raises(fastrpc.RpcError, match="odd") as caught:
                await client.call("odd")
            assert caught.value.data == {"code": -32000, "data": None}
            with pytest.raises(fastrpc.MethodNotFound):
                await client.call("nothing")
            with pytest.raises(fastrpc.DeadlineExceeded):
                await client.options(timeout=0.1).call("slow")
            assert await client.call("add", 1, 1) == 2
            client.notify("add", 1, 2)
            assert await client.call("add", 2, 2) == 4
