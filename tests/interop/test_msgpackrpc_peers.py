"""msgpack-rpc with programs of others: neovim, pynvim and msgpack-rpc-python, in both roles."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

import fastrpc
from tests.interop.programs import finished, free_port, need, python_with, running, told
from tests.interop.served import Mine, serving

pytestmark = [pytest.mark.asyncio, pytest.mark.slow, pytest.mark.timeout(300)]

# Its own packages, for it wants a msgpack of long ago.
REFERENCE = ("msgpack-rpc-python==0.4.1", "tornado==4.5.3", "msgpack-python==0.5.6")
PYNVIM = ("pynvim==0.6.0",)


def neovim(folder: Path) -> dict[str, Any]:
    """Return the options of a neovim that reads nobody's configuration."""
    need("nvim")
    return {"env": {**os.environ, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}}


async def test_calls_neovim(tmp_path: Path) -> None:
    port = free_port()
    options = neovim(tmp_path)
    words = ("nvim", "--headless", "--clean", "--listen", f"127.0.0.1:{port}")
    async with running(*words, port=port, **options):
        client = fastrpc.connect(f"msgpackrpc://127.0.0.1:{port}", timeout=10)
        client.register(Mine())
        async with client:
            assert await client.call("nvim_eval", "6 * 7") == 42
            channel, api = await client.call("nvim_get_api_info")
            assert "functions" in api
            # Text, and a map, both ways, and larger than one read.
            text = "é\n" * 200_000
            await client.call("nvim_set_var", "x", {"text": text, "list": [1, [2.5, None]]})
            assert await client.call("nvim_get_var", "x") == {
                "text": text,
                "list": [1, [2.5, None]],
            }
            # Many at once.
            asked = [client.call("nvim_eval", f"{number} + 1") for number in range(200)]
            assert await asyncio.gather(*asked) == list(range(1, 201))
            # Its errors are [type, text].
            with pytest.raises(
                fastrpc.RpcError, match="E121: Undefined variable: nothing"
            ) as told_us:
                await client.call("nvim_eval", "nothing")
            assert told_us.value.data[1] == told_us.value.message
            with pytest.raises(fastrpc.RpcError, match="Invalid method: nvim_nothing"):
                await client.call("nvim_nothing")
            # It calls us back, in the middle of a call of ours; and a notification.
            assert await client.call("nvim_eval", f"rpcrequest({channel}, 'Mine.up', 41)") == 42
            with pytest.raises(fastrpc.RpcError, match="there is no"):
                await client.call("nvim_eval", f"rpcrequest({channel}, 'Mine.down', 41)")
            client.notify("nvim_set_var", "told", 1)
            assert await client.call("nvim_get_var", "told") == 1
            with pytest.raises(fastrpc.Unsupported, match="position"):
                await client.call("nvim_eval", expr="1")


VIM = """
let c = sockconnect('tcp', '127.0.0.1:{port}', {{'rpc': v:true}})
let out = {{}}
let out.add = rpcrequest(c, 'Arith.add', 2, 3)
let out.echo = rpcrequest(c, 'Arith.echo', {{'a': [1, 2.5, v:null, 'é']}})
let out.large = strlen(rpcrequest(c, 'Arith.echo', repeat('x', 300000)))
for what in [['Arith.fail', 'no'], ['Arith.nothing'], ['Arith.add', 1, 'x'], ['Arith.count', 3]]
  try
    call call('rpcrequest', [c] + what)
  catch
    let out[what[0] .. len(what)] = v:exception
  endtry
endfor
call rpcnotify(c, 'Arith.note', 'told')
let out.notes = rpcrequest(c, 'Arith.notes')
let out.back = rpcrequest(c, 'Arith.ask', 'nvim_eval', '6 * 7')
try
  call rpcrequest(c, 'Arith.ask', 'nvim_eval', 'nothing')
catch
  let out.back_failed = v:exception
endtry
call rpcrequest(c, 'Arith.tell', 'nvim_set_var', 'x')
call writefile([json_encode(out)], '{out}')
qall!
"""


async def test_neovim_calls_us_and_we_call_it_back(tmp_path: Path) -> None:
    options = neovim(tmp_path)
    async with serving() as (port, arith, _):
        script, out = tmp_path / "talk.vim", tmp_path / "out.json"
        script.write_text(VIM.format(port=port, out=out))
        said = await finished("nvim", "--headless", "--clean", "-S", script, **options)
        got = json.loads(out.read_text())
    assert (got["add"], got["large"], got["back"]) == (5, 300_000, 42), said
    assert got["echo"] == {"a": [1, 2.5, None, "é"]}
    assert got["notes"] == arith.noted == ["told"]
    # It shows our texts as they are.
    assert "RpcError: no" in got["Arith.fail2"]
    assert "there is no" in got["Arith.nothing1"]
    assert "argument 'b'" in got["Arith.add3"]
    assert "stream" in got["Arith.count2"]
    assert "E121" in got["back_failed"]


PYNVIM_CLIENT = """
import json, sys
from pynvim.msgpack_rpc import tcp_session

session = tcp_session("127.0.0.1", int(sys.argv[1]))
out = {"add": session.request("Arith.add", 2, 3), "echo": session.request("Arith.echo", {"a": [1, None]})}
try:
    session.request("Arith.fail", "no")
except Exception as error:
    out["error"] = repr(error)
session.request("Arith.note", "told", async_=True)
out["notes"] = session.request("Arith.notes")

def request(name, args):
    out.setdefault("asked", []).append([name, list(args)])
    return args[0] * 2

def notification(name, args):
    out["told"] = [name, list(args)]
    session.stop()

def talk():
    out["back"] = session.request("Arith.ask", "double", 21)
    session.request("Arith.tell", "note", "x")

session.run(request, notification, talk)
session.close()
print(json.dumps(out))
"""


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_pynvim_calls_us_and_we_call_it_back() -> None:
    python = python_with(*PYNVIM)
    async with serving() as (port, _, _):
        got = await told(python, "-c", PYNVIM_CLIENT, str(port))
    assert (got["add"], got["echo"], got["notes"]) == (5, {"a": [1, None]}, ["told"])
    assert "RpcError: no" in got["error"]
    assert (got["asked"], got["back"]) == ([["double", [21]]], 42)
    assert got["told"] == ["note", ["x"]]


REFERENCE_CLIENT = """
import json, sys
import msgpackrpc

client = msgpackrpc.Client(msgpackrpc.Address("127.0.0.1", int(sys.argv[1])), unpack_encoding="utf-8")
out = {"add": client.call("Arith.add", 2, 3), "echo": client.call("Arith.echo", {"a": [1, None, "x"]})}
futures = [client.call_async("Arith.later", n, 1) for n in range(100)]
out["many"] = [future.get() for future in futures]
for name, args in (("Arith.fail", ["no"]), ("nothing", [])):
    try:
        client.call(name, *args)
    except msgpackrpc.error.RPCError as error:
        out[name] = error.args[0]
client.notify("Arith.note", "told")
out["notes"] = client.call("Arith.notes")
out["large"] = len(client.call("Arith.echo", "x" * 300000))
client.close()
print(json.dumps(out))
"""


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_the_reference_client_calls_us() -> None:
    python = python_with(*REFERENCE)
    async with serving() as (port, _, _):
        got = await told(python, "-c", REFERENCE_CLIENT, str(port))
    assert (got["add"], got["echo"], got["large"]) == (5, {"a": [1, None, "x"]}, 300_000)
    assert got["many"] == list(range(1, 101))
    assert got["notes"] == ["told"]
    assert got["Arith.fail"] == [0, "RpcError: no"]
    assert "there is no" in got["nothing"][1]


REFERENCE_SERVER = """
import sys, time
import msgpackrpc

class Sums(object):
    def add(self, a, b):
        return a + b
    def echo(self, value):
        return value
    def fail(self):
        raise ValueError("broken")
    def slow(self):
        time.sleep(0.3)

server = msgpackrpc.Server(Sums(), unpack_encoding="utf-8")
server.listen(msgpackrpc.Address("127.0.0.1", int(sys.argv[1])))
server.start()
"""


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_we_call_the_reference_server() -> None:
    python = python_with(*REFERENCE)
    port = free_port()
    async with running(python, "-c", REFERENCE_SERVER, str(port), port=port):
        async with fastrpc.connect(f"msgpackrpc://127.0.0.1:{port}", timeout=10) as client:
            assert await client.call("add", 2, 3) == 5
            assert await client.call("echo", {"a": [1, None, "x" * 300_000]}) == {
                "a": [1, None, "x" * 300_000]
            }
            asked = [client.call("add", number, 1) for number in range(100)]
            assert await asyncio.gather(*asked) == list(range(1, 101))
            with pytest.raises(fastrpc.RpcError, match="broken"):
                await client.call("fail")
            with pytest.raises(fastrpc.RpcError, match="nothing"):
                await client.call("nothing")
            with pytest.raises(fastrpc.DeadlineExceeded):
                await client.options(timeout=0.1).call("slow")
            assert await client.call("add", 1, 1) == 2  # the late answer is dropped
            client.notify("add", 1, 2)
            assert await client.call("add", 2, 2) == 4
