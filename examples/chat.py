"""A chat room: the server pushes what one says to all the others.

    python examples/chat.py                           # a talk of three, in one program
    python examples/chat.py serve tcp://127.0.0.1:7000
    python examples/chat.py join tcp://127.0.0.1:7000 ann    # what you type is said

A member's client registers a Screen, which the server calls. Who reads too slowly
misses lines and is told how many; who is gone is noticed at the next line.
"""

import asyncio
import sys
import threading

import fastrpc


class Screen:
    """What a member lets the room do: show lines."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[str] = []

    def show(self, author: str, line: str) -> None:
        self.lines.append(f"{author}: {line}")
        print(f"{self.name} reads  {author}: {line}")


class Room:
    """Who is here, and what is said."""

    def __init__(self) -> None:
        self._members: dict[fastrpc.Peer, str] = {}
        self._missed: dict[fastrpc.Peer, int] = {}

    async def join(self, name: str, peer: fastrpc.Peer = fastrpc.GIVEN) -> list[str]:
        """Come in as *name*; return who is here."""
        if name in await self.here():
            raise fastrpc.RpcError(409, f"there is a {name} here")
        self._members[peer] = name
        self._tell("room", f"{name} came", besides=peer)
        return await self.here()

    async def here(self) -> list[str]:
        """Return who is here."""
        self._clean()
        return sorted(self._members.values())

    async def say(self, line: str, peer: fastrpc.Peer = fastrpc.GIVEN) -> int:
        """Say *line* to all others; return how many were told."""
        author = self._members.get(peer)
        if author is None:
            raise fastrpc.RpcError(403, "join first")
        return self._tell(author, line[:500], besides=peer)

    def _tell(self, author: str, line: str, besides: fastrpc.Peer) -> int:
        self._clean()
        told = 0
        for peer in self._members:
            if peer is besides:
                continue
            missed = self._missed.pop(peer, 0)
            text = f"{line} (you missed {missed} lines)" if missed else line
            try:
                peer.notify("Screen.show", author, text)  # never waits
                told += 1
            except fastrpc.Unavailable:  # it reads too slowly
                self._missed[peer] = missed + 1
        return told

    def _clean(self) -> None:
        for peer in [peer for peer in self._members if not peer.is_open]:
            del self._members[peer]
            self._missed.pop(peer, None)


async def serve(target: str) -> None:
    async with fastrpc.Server() as server:
        server.register(Room())
        await server.start(target)
        print("serving on", *server.targets)
        await server.serve_forever()


async def join(target: str, name: str) -> None:
    client = fastrpc.connect(target, timeout=5.0)
    client.register(Screen(name))  # before it connects: the server may call at once
    typed: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(typed.put_nowait, line.strip())
        loop.call_soon_threadsafe(typed.put_nowait, "")  # as an empty line, it is the end

    threading.Thread(target=read, daemon=True).start()
    async with client:
        room = client.stub(Room)
        print("here are", *await room.join(name))
        while line := await typed.get():
            await room.say(line)


async def talk() -> None:
    """Let three talk, and one leave."""
    server = fastrpc.Server()
    server.register(Room())
    await server.start("tcp://127.0.0.1:0")
    screens = {name: Screen(name) for name in ("ann", "bob", "cid")}
    clients = {name: fastrpc.connect(server.targets[0]) for name in screens}
    for name, client in clients.items():
        client.register(screens[name])
        print(name, "joins", *await client.stub(Room).join(name))
    try:
        await clients["cid"].stub(Room).join("bob")
    except fastrpc.RpcError as error:
        print("refused:", error)

    print("told:", await clients["ann"].stub(Room).say("hello"))
    await clients["bob"].ping()  # what was pushed before has arrived
    await clients["cid"].ping()
    await clients["bob"].aclose()
    while "bob" in await clients["cid"].stub(Room).here():
        pass
    print("told:", await clients["cid"].stub(Room).say("bye"))
    await clients["ann"].ping()
    for client in clients.values():
        await client.aclose()
    await server.aclose()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", target]:
            asyncio.run(serve(target))
        case ["join", target, name]:
            asyncio.run(join(target, name))
        case _:
            asyncio.run(talk())
