"""Hold a TLS server with half handshakes and measure what that costs it: T4.

    python tests/leak/half_hellos.py [--clients 5000] [--uvloop]

The server runs here, the clients in a process of their own. Printed as JSON: memory of the
server before, at its most and at the end, in KiB; how many handshakes were under way and how
many waited; how long a good client took to get in behind the others, in seconds.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).parents[2]))

from fastrpc.transport import TlsOptions, dial, listen, parse_target
from fastrpc.transport.threshold import Threshold
from tests.transport import certs
from tests.transport.ends import Client, Echo

HALF_HELLO = bytes.fromhex("16030100c8010000c40303")

ATTACK = """
import resource, socket, sys
count, port = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, max(count + 100,
                   resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
held = []
for number in range(count):
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(bytes.fromhex(sys.argv[3]))
    held.append(sock)
print("held", flush=True)
sys.stdin.read()
"""


def memory() -> int:
    """Return what of this process is in memory, in KiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


async def measure(clients: int, seconds: float) -> dict[str, object]:
    """Run the attack for the time that a handshake may take."""
    tls = certs.server_tls(handshake_timeout=seconds)
    listener = await listen("tls://127.0.0.1:0", Echo, tls=tls)
    (gate,) = (each for each in listener._accepting if isinstance(each, Threshold))
    port = parse_target(listener.targets[0]).port
    options = TlsOptions(ca=certs.ca())

    async def good() -> float:
        started = time.perf_counter()
        transport, client = await dial(listener.targets[0], Client, timeout=60, tls=options)
        transport.write(b"x")
        await client.got
        transport.abort()
        await client.lost
        return time.perf_counter() - started

    for _ in range(20):  # what is allocated once is no cost of theirs
        await good()
    before = most = memory()
    handshakes = waiting = 0
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ATTACK, str(clients), str(port), HALF_HELLO.hex(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    held = asyncio.create_task(process.stdout.readline())
    while not held.done():
        await asyncio.sleep(0.005)
        most = max(most, memory())
        handshakes, waiting = max(handshakes, gate.handshakes), max(waiting, gate.waiting)
    got_in = await good()
    most = max(most, memory())
    process.stdin.close()
    await process.wait()
    while gate.handshakes or gate.waiting:
        await asyncio.sleep(0.01)
    usable = await good()
    listener.close()
    await listener.wait_closed()
    return {
        "clients": clients, "before": before, "most": most, "after": memory(),
        "grown_mib": round((most - before) / 1024, 1), "handshakes": handshakes,
        "waiting": waiting, "good_client": round(got_in, 3), "afterwards": round(usable, 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=10.0, help="handshake_timeout")
    parser.add_argument("--uvloop", action="store_true")
    given = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    factory = uvloop.new_event_loop if given.uvloop else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        print(json.dumps(runner.run(measure(given.clients, given.seconds))))


if __name__ == "__main__":
    main()
