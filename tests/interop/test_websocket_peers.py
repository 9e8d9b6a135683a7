"""WebSocket with programs that nobody here wrote: both roles, both subprotocols, and proxies.

Python's `websockets` and Node's `ws` as clients of our server and as servers that our client
dials; nginx and haproxy in between.
"""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

import fastrpc
from fastrpc.frame import Frame, FrameDecoder
from fastrpc.wire import Kind
from tests.adversity.raw_peer import call, hello_frame, pack, unpack
from tests.client.served import serving
from tests.interop.foreign import free_port, running
from tests.interop.node import node_modules, run_node_json
from tests.interop.talk import talk

pytestmark = pytest.mark.slow

BINARY, TEXT = Subprotocol("fastrpc.1"), Subprotocol("jsonrpc")
LARGE = 3_000_000
one_loop = pytest.mark.asyncio(loop_factories=["asyncio"])


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[str]:
    """Serve a `Work` at a port with every door; give host:port."""
    async with serving() as (server, _):
        yield server.targets[0].removeprefix("tcp://")


# What is said in frames, by those who have no client of ours

SAID = [
    hello_frame(),
    call(1, b"Work.add", pack([1, 2])),
    call(2, b"Work.blob", pack([LARGE])) + call(3, b"Work.echo", pack(["x" * 70_000])),
    call(4, b"Work.nothing"),
]
ANSWERS = 5


def check_answers(stream: bytes) -> None:
    """Check what came back for `SAID`."""
    frames: list[Frame] = list(FrameDecoder().feed(stream))
    assert len(frames) == ANSWERS
    assert (frames[0].kind, frames[0].status, frames[0].reply) == (Kind.HELLO, 0, True)
    by_id = {frame.id: frame for frame in frames[1:]}
    assert unpack(by_id[1].payload) == 3
    body = by_id[2].payload  # large bytes go raw
    assert body[-LARGE:] == b"\x01" * LARGE
    assert unpack(by_id[3].payload) == "x" * 70_000
    assert by_id[4].status == 44


TEXTS = [
    {"jsonrpc": "2.0", "id": 1, "method": "Work.add", "params": [1, 2]},
    {"jsonrpc": "2.0", "method": "Work.add", "params": [1, 2]},
    {"jsonrpc": "2.0", "id": 2, "method": "Work.echo", "params": ["\u00e9\U0001f600" * 40_000]},
    [{"jsonrpc": "2.0", "id": 3, "method": "Work.add", "params": {"a": 1, "b": 5}}],
    {"jsonrpc": "2.0", "id": 4, "method": "Work.nothing"},
]


def check_texts(answers: list[Any]) -> None:
    """Check what came back for `TEXTS`."""
    assert len(answers) == 4
    flat = [each[0] if isinstance(each, list) else each for each in answers]
    by_id = {each["id"]: each for each in flat}
    assert by_id[1]["result"] == 3
    assert by_id[2]["result"] == "\u00e9\U0001f600" * 40_000
    assert by_id[3]["result"] == 6
    assert by_id[4]["error"]["code"] == -32601


# Ours on both ends


@pytest.mark.asyncio
@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_the_conversation_is_that_of_tcp(codec: str) -> None:
    told = []
    for scheme in ("tcp", "ws"):
        async with served() as place, fastrpc.connect(f"{scheme}://{place}", codec=codec) as client:
            told.append(await talk(client, codec))
    plain, websocket = told
    assert websocket == plain
    assert len(plain) > 40


# Python's websockets


@pytest.mark.asyncio
async def test_a_python_client_speaks_binary() -> None:
    async with served() as place, connect(f"ws://{place}/", subprotocols=[BINARY]) as peer:
        assert peer.subprotocol == BINARY
        assert peer.protocol.extensions == [], "compression was agreed on"
        stream, decoder, count = b"", FrameDecoder(), 0
        # In fragments, and a ping between.
        await peer.send([SAID[0][:7], SAID[0][7:]])
        await (await peer.ping(b"there?"))
        for data in SAID[1:]:
            await peer.send(data)
        while count < ANSWERS:
            message = await peer.recv()
            assert isinstance(message, bytes)
            count += len(list(decoder.feed(message)))
            stream += message
        check_answers(stream)
    assert peer.close_code == 1000


@pytest.mark.asyncio
async def test_a_python_client_speaks_text() -> None:
    async with served() as place, connect(f"ws://{place}/", subprotocols=[TEXT]) as peer:
        for message in TEXTS:
            await peer.send(json.dumps(message, ensure_ascii=False))
        check_texts([json.loads(await peer.recv()) for _ in range(4)])
    assert peer.close_code == 1000


@pytest.mark.asyncio
@pytest.mark.parametrize(("subprotocol", "origin", "status"), [
    ([BINARY], "https://evil.example", 403), ([TEXT], "null", 403),
    (None, None, 400), ([Subprotocol("chat")], None, 400),
])  # fmt: skip
async def test_a_python_client_is_refused(
    subprotocol: list[Subprotocol] | None, origin: str | None, status: int
) -> None:
    async with served() as place:
        with pytest.raises(InvalidStatus) as info:
            await connect(
                f"ws://{place}/",
                subprotocols=subprotocol,
                origin=Origin(origin) if origin else None,
            )
        assert info.value.response.status_code == status


async def relay(peer: ServerConnection, place: str) -> None:
    """Pass bytes between a WebSocket and a TCP connection."""
    host, _, port = place.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))

    async def back() -> None:
        while data := await reader.read(100_000):
            await peer.send([data[:10], data[10:]])  # in fragments
            await peer.ping()

    returning = asyncio.ensure_future(back())
    try:
        async for message in peer:
            assert isinstance(message, bytes)
            writer.write(message)
            await writer.drain()
    finally:
        returning.cancel()
        await asyncio.wait([returning])
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def use(target: str) -> None:
    """Call in several styles at *target*, which leads to a `Work`."""
    async with fastrpc.connect(target) as client:
        assert await client.call("Work.add", 1, 2) == 3
        assert await client.call("Work.blob", LARGE) == b"\x01" * LARGE
        assert await client.call("Work.size", b"y" * LARGE) == LARGE
        sums = await asyncio.gather(*[client.call("Work.add", n, n) for n in range(300)])
        assert sums == [2 * n for n in range(300)]
        with pytest.raises(fastrpc.MethodNotFound):
            await client.call("Work.nothing")
        assert await client.ping() < 10


@pytest.mark.asyncio
async def test_a_python_server_is_dialled() -> None:
    async with served() as place:
        async with serve(
            lambda peer: relay(peer, place), "127.0.0.1", 0, subprotocols=[BINARY]
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            await use(f"ws://127.0.0.1:{port}/some/path")


@pytest.mark.asyncio
async def test_a_python_server_that_wants_something_else() -> None:
    async def stay(peer: ServerConnection) -> None:
        await peer.wait_closed()

    for subprotocols, words in (([TEXT], "400 Bad Request"), (None, "subprotocol fastrpc.1")):
        async with serve(stay, "127.0.0.1", 0, subprotocols=subprotocols) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            with pytest.raises(fastrpc.ConnectFailed, match=words):
                async with fastrpc.connect(f"ws://127.0.0.1:{port}", connect_timeout=0.5):
                    pass


# Node's ws

NODE_CLIENT = """
import WebSocket from 'ws';
import { readFileSync } from 'node:fs';
const [url, subprotocol, count, file] = process.argv.slice(1);
const said = readFileSync(file, 'utf8').trim().split('\\n');
const peer = new WebSocket(url, subprotocol, { perMessageDeflate: true });
const got = []; let stream = Buffer.alloc(0); let pongs = 0;
function enough() {
  if (subprotocol === 'jsonrpc') return got.length >= +count;
  let frames = 0;
  for (let at = 0; at + 20 <= stream.length;) {
    at += stream.readUInt16BE(at + 2) + stream.readUInt32BE(at + 16);
    if (at <= stream.length) frames++;
  }
  return frames >= +count;
}
peer.on('open', () => {
  peer.ping('there?');
  for (const text of said) {
    if (subprotocol === 'jsonrpc') peer.send(text);
    else peer.send(Buffer.from(text, 'hex'));
  }
});
peer.on('pong', (data) => { pongs += data.toString() === 'there?' ? 1 : 0; });
peer.on('message', (data, isBinary) => {
  if (isBinary) stream = Buffer.concat([stream, data]);
  else got.push(JSON.parse(data.toString()));
  if (enough()) peer.close(1000, 'done');
});
peer.on('close', (code) => {
  const { extensions, protocol } = peer;
  console.log(JSON.stringify({ got, stream: stream.toString('base64'), code, pongs, extensions, protocol }));
});
"""

NODE_SERVER = """
import { WebSocketServer } from 'ws';
import net from 'node:net';
const [port, up] = process.argv.slice(1);
const server = new WebSocketServer({
  host: '127.0.0.1', port: +port, handleProtocols: () => 'fastrpc.1', perMessageDeflate: true,
});
server.on('connection', (peer) => {
  const below = net.connect(+up, '127.0.0.1');
  peer.on('message', (data) => below.write(data));
  peer.on('close', () => below.destroy());
  below.on('data', (data) => {
    peer.send(data.subarray(0, 5), { fin: false });
    peer.ping();
    peer.send(data.subarray(5), { fin: true });
  });
  below.on('close', () => peer.close());
});
"""


@one_loop
@pytest.mark.timeout(300)
async def test_a_node_client_speaks_both(tmp_path: Path) -> None:
    folder = node_modules("ws@8")
    found: dict[str, Any] = {}
    for subprotocol, count, said in (
        (BINARY, ANSWERS, [data.hex() for data in SAID]),
        (TEXT, 4, [json.dumps(message) for message in TEXTS]),
    ):
        file = tmp_path / subprotocol
        file.write_text("\n".join(said))
        async with served() as place:
            found[subprotocol] = await run_node_json(
                NODE_CLIENT, f"ws://{place}/", subprotocol, str(count), str(file), cwd=folder
            )
    check_answers(base64.b64decode(found[BINARY]["stream"]))
    check_texts(found[TEXT]["got"])
    for name, each in found.items():
        assert (each["code"], each["pongs"], each["extensions"]) == (1000, 1, "")
        assert each["protocol"] == name


@one_loop
@pytest.mark.timeout(300)
async def test_a_node_server_is_dialled() -> None:
    folder, port = node_modules("ws@8"), free_port()
    async with served() as place:
        up = place.rpartition(":")[2]
        args = ["node", "--input-type=module", "-e", NODE_SERVER, str(port), up]
        with running(args, port, cwd=folder):
            await use(f"ws://127.0.0.1:{port}")


# Reverse proxies

NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{up};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
    }}
  }}
}}
"""

HAPROXY = """
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout tunnel 1h
frontend outside
  bind 127.0.0.1:{port}
  default_backend inside
backend inside
  server ours 127.0.0.1:{up}
"""


@one_loop
@pytest.mark.parametrize("name", ["nginx", "haproxy"])
async def test_through_a_reverse_proxy(name: str, tmp_path: Path) -> None:
    port, config = free_port(), tmp_path / "config"
    async with served() as place:
        text, args = {
            "nginx": (NGINX, ["nginx", "-p", str(tmp_path), "-c", str(config), "-e", "stderr"]),
            "haproxy": (HAPROXY, ["haproxy", "-db", "-f", str(config)]),
        }[name]
        config.write_text(text.format(folder=tmp_path, port=port, up=place.rpartition(":")[2]))
        with running(args, port):
            await use(f"ws://127.0.0.1:{port}/")
            async with connect(f"ws://127.0.0.1:{port}/", subprotocols=[TEXT]) as peer:
                for message in TEXTS:
                    await peer.send(json.dumps(message))
                check_texts([json.loads(await peer.recv()) for _ in range(4)])
            # The name that the page asked for goes through, so it is still one of ours.
            for origin, status in ((f"http://127.0.0.1:{port}", 101), ("http://evil.example", 403)):
                try:
                    async with connect(
                        f"ws://127.0.0.1:{port}/", subprotocols=[TEXT], origin=Origin(origin)
                    ):
                        got = 101
                except InvalidStatus as refusal:
                    got = refusal.response.status_code
                assert got == status, origin
