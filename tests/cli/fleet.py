"""A registry and two servers in it, for tests of commands that look at clusters."""

import asyncio
import threading

import fastrpc
from fastrpc.cluster.registrar.run import Registrar
from tests.cli.served import Arith


class Fleet:
    """A registry server and two servers of Arith on a loop and thread of their own."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(10)

    async def _serve(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        registrar = Registrar()
        await registrar.start("tcp://127.0.0.1:0")
        self.registry_server = registrar.targets[0]
        self.registry = self.registry_server.replace("tcp", "registry")
        self.service = f"{self.registry}/Arith"
        servers = []
        for zone in ("eu-1", "eu-2"):
            server = fastrpc.Server()
            server.register(Arith())
            await server.start("tcp://127.0.0.1:0")
            await server.announce(self.registry, zone=zone)
            servers.append(server)
        self.addresses = [server.targets[0] for server in servers]
        # One that nobody can read, and one that is down and not there.
        async with fastrpc.connect(self.registry_server) as client:
            text = b'{"id":"down","addresses":["unix:///nowhere/x.sock"],"state":"down"}'
            for id, told in (("junk", b"junk"), ("down", text)):
                await client.call("Registry.publish", "fastrpc", "Mixed", id, told, "me", 3600.0)
        self._ready.set()
        await self._end.wait()
        for server in servers:
            await server.aclose(grace=0)
        await registrar.aclose(grace=0)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
