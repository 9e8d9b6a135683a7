"""The JavaScript client in Node: its own tests, and those against a real server of ours."""

import ast
import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import fastrpc
from tests.docs.pages import ROOT, blocks
from tests.interop.foreign import free_port
from tests.interop.js_service import Arith, make_server
from tests.interop.node import js_client, run_node, run_node_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def client() -> Path:
    """Return the folder of the client, built."""
    return js_client()


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[str]:
    """Serve everything, and give the address for a WebSocket."""
    async with make_server() as server:
        await server.start("ws://127.0.0.1:0")
        yield server.targets[0]


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_without_a_server(client: Path) -> None:
    """Golden vectors, payloads, and a scripted server."""
    tests = sorted(path for path in (client / "build" / "test").glob("*.test.js"))
    unit = [str(path) for path in tests if path.name != "live.test.js"]
    assert len(unit) >= 3
    said = await run_node(*_runner(unit), cwd=client)
    assert "\n# fail 0\n" in said
    assert "\n# skipped 0\n" in said


@pytest.mark.asyncio
async def test_against_a_server(client: Path) -> None:
    async with served() as url:
        live = str(client / "build" / "test" / "live.test.js")
        said = await run_node(*_runner([live]), cwd=client, env={"FASTRPC_URL": url})
    assert "\n# fail 0\n" in said
    assert "\n# skipped 0\n" in said


def _runner(files: list[str]) -> list[str]:
    """Return what runs test files of Node."""
    text = (
        "import { run } from 'node:test'; import { tap } from 'node:test/reporters';"
        "run({ files: process.argv.slice(1), concurrency: true, timeout: 30000 })"
        ".on('test:fail', () => { process.exitCode = 1; })"
        ".compose(tap).pipe(process.stdout);"
    )
    return [text, *(os.fspath(file) for file in files)]


_PROMISE = re.compile(r"// -> (.*)$", re.MULTILINE)


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_the_guide(client: Path) -> None:
    """What the page shows in JavaScript prints what the page says, in order."""
    page = blocks((ROOT / "docs" / "guide" / "javascript.md").read_text(encoding="utf-8"))
    program = "\n".join(block.text for block in page if block.language == "js")
    promised = _PROMISE.findall(program)
    assert len(promised) > 20
    names: dict[str, Any] = {"__name__": "guide"}
    port = str(free_port())
    served = compile(
        page[0].text.replace("7000", port), "guide", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    )
    await eval(served, names)
    try:
        said = await run_node(program.replace("7000", port), cwd=client)
    finally:
        await names["server"].aclose()
    assert said.splitlines() == promised


RESTART = """
import WebSocket from "ws";
import { connect } from "fastrpc-client";

const client = connect(process.argv[1], { WebSocket, timeout: 20 });
const slow = client.call("Arith.slow", ["finished where it began", 1.0]);
client.notify("Arith.note", ["ready"]);
const ran = [];
let who = "one";
while (who === "one") {
  try {
    who = await client.call("who");
  } catch (error) {
    ran.push(error.ran);
  }
  await new Promise((resolve) => setTimeout(resolve, 5));
}
console.log(JSON.stringify({ slow: await slow, who, ran }));
client.close();
"""


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_server_that_is_replaced(client: Path) -> None:
    """What the old one took it finishes; all else goes to the new one, and nothing runs twice."""
    url = f"ws://127.0.0.1:{free_port()}"
    service = Arith()
    servers = [fastrpc.Server(), fastrpc.Server()]
    servers[0].register(service)
    servers[0].register(lambda: "one", name="who")
    servers[1].register(lambda: "two", name="who")
    await servers[0].start(url)
    try:
        running = asyncio.create_task(run_node_json(RESTART, url, cwd=client))
        async with asyncio.timeout(20):
            await service.noted(1)
        closing = asyncio.create_task(servers[0].aclose(grace=10))
        await asyncio.sleep(0)  # its listener is closed in its first step
        await servers[1].start(url)
        told = await running
        await closing
    finally:
        for server in servers:
            await server.aclose(grace=0)
    assert told["slow"] == "finished where it began"
    assert told["who"] == "two"
    assert set(told["ran"]) <= {"no"}
