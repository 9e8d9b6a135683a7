"""A server that is out of file descriptors goes on serving whom it has."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, json, logging, resource, socket, sys, time
import fastrpc
from tests.adversity.raw_peer import RawPeer, call
from tests.server.serving import until

LIMIT, CROWDS, CROWD = 64, 4, 50

CHILD = '''
import socket, sys
sys.stdin.readline()
crowd = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for _ in range(int(sys.argv[3]))]
print("there", flush=True)
sys.stdin.read()
'''


class Victim:
    def add(self, a: int, b: int) -> int:
        return a + b


async def main():
    log = logging.getLogger("calm")
    log.setLevel(logging.CRITICAL)
    server = fastrpc.Server(log=log, max_connections=int(sys.argv[1]) or None)
    server.register(Victim())
    await server.start("tcp://127.0.0.1:0")
    host, port = server.targets[0].removeprefix("tcp://").split(":")
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, host, port, str(CROWD),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(CROWDS)
    ]
    live = await RawPeer.greeted(server.targets[0])
    for child in children:
        child.stdin.write(b"go\\n")
    for id in range(1, 101):
        live.send(call(id))
        assert (await live.reply(id)).payload == b"\\x05"
        await asyncio.sleep(0.001)
    for child in children:
        assert await child.stdout.readline() == b"there\\n"
    await asyncio.sleep(0.1)
    spent = time.process_time()
    await asyncio.sleep(0.3)
    spent = time.process_time() - spent
    most = server.stats().connections
    for child in children:
        child.stdin.close()
        await child.wait()
    await until(lambda: server.stats().connections == 1)
    fresh = await RawPeer.greeted(server.targets[0])
    for peer in (live, fresh):
        await peer.aclose()
    await server.aclose(0)
    print(json.dumps({"most": most, "spin": spent}))


resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
if sys.argv[2] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("cap", [0, 1000], ids=["with the cap", "without a cap"])
def test_more_connections_than_descriptors(loop: str, cap: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(cap), loop], cwd=ROOT, text=True, check=False,
        capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=25,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["spin"] < 0.15, told  # of 0.3 s: time of the processor, not of the clock
    assert told["most"] <= 52 if not cap else 64, told
