"""What happens around a fork, each scene in a process of its own; see test_fork."""

import asyncio
import contextlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import uvloop

import fastrpc
from tests.client.flowing import Flow, FlowServer
from tests.client.served import Work, sessions_of, turn_until

LOOPS: dict[str, Any] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def inodes() -> set[str]:
    """Return the sockets that this process has."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return {name for name in found if name.startswith("socket:")}


def child(act: Callable[[], None]) -> int:
    """Fork; the child runs *act* and ends. Return its number."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        act()
        code = 0
    except BaseException as exc:
        print(f"child: {type(exc).__name__}: {exc}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def reap(number: int, seconds: float = 10.0) -> None:
    """Wait for a child and demand that all went well in it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(number, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0, "the child failed"
            return
        time.sleep(0.005)
    os.kill(number, 9)
    os.waitpid(number, 0)
    raise AssertionError("the child hangs")


def run(loop: str, main: Any) -> None:
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main)


@contextlib.contextmanager
def shared_nothing(parents: set[str]) -> Iterator[None]:
    """Demand that a child has none of the parent's sockets, before and after."""
    assert not inodes() & parents, "the parent's socket is open in the child"
    yield
    assert not inodes() & parents


async def settled() -> set[str]:
    """Return the sockets of a loop that has nothing else yet; threads make it open some."""
    await asyncio.to_thread(time.sleep, 0)
    return inodes()


# Scenes: each takes a target where Work is served, and the name of a loop


def blocking(target: str, loop: str) -> None:
    with fastrpc.connect_sync(target) as client:
        assert client.call("Work.echo", "before") == "before"
        parents = inodes()

        def act() -> None:
            with shared_nothing(parents):
                for n in range(50):
                    assert client.call("Work.echo", f"child {n}") == f"child {n}"
                client.close()

        number = child(act)
        for n in range(50):
            assert client.call("Work.echo", f"parent {n}") == f"parent {n}"
        reap(number)
        assert inodes() == parents
        assert client.call("Work.echo", "after") == "after"


def blocking_with_a_call_open(target: str, loop: str) -> None:
    with fastrpc.connect_sync(target) as client:
        results: list[Any] = []
        slow = threading.Thread(target=lambda: results.append(client.call("Work.nap", 0.3)))
        slow.start()
        time.sleep(0.1)

        def act() -> None:
            assert client.options(timeout=5).call("Work.add", 1, 2) == 3
            assert client.ping() < 5

        number = child(act)
        assert client.call("Work.add", 1, 2) == 3
        reap(number)
        slow.join(5)
        assert results == [0.3]


def blocking_with_every_lock_held(target: str, loop: str) -> None:
    client = fastrpc.connect_sync(target)
    assert client.call("Work.add", 1, 2) == 3
    session: Any = client._session
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with session.lock, client._lock:
            held.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)

    def act() -> None:
        assert client.call("Work.add", 1, 2) == 3
        client.notify("Work.add", 1, 2)
        client.close()

    number = child(act)
    reap(number)
    release.set()
    holder.join(10)
    assert client.call("Work.add", 1, 2) == 3
    client.close()


def blocking_with_streams_open(target: str, loop: str) -> None:
    with FlowServer() as server, fastrpc.connect_sync(server.target) as client:
        flow: Any = client.stub(Flow)
        stream, sending = flow.paused(2), client.stream("Flow.total")
        assert next(stream) == 0
        sending.send(1)
        session: Any = client._session

        def act() -> None:
            for use in (lambda: list(stream), lambda: sending.send(2), sending.result):
                try:
                    use()
                except fastrpc.ConnectionLost as exc:
                    assert "the parent process's" in str(exc)
                else:
                    raise AssertionError("the child used the parent's stream")
            assert list(client.options(timeout=5).stream("Flow.count", 3)) == [0, 1, 2]

        with session.lock:  # as another thread might
            number = child(act)
        reap(number)
        sending.send(2)
        sending.end()
        assert sending.result() == 3
        server.do(server.flow.gate.set)
        assert list(stream) == [1, -1]


def blocking_closed_in_the_child(target: str, loop: str) -> None:
    client = fastrpc.connect_sync(target)
    assert client.call("Work.add", 1, 2) == 3
    number = child(client.close)
    reap(number)
    assert client.call("Work.add", 1, 2) == 3  # neither closed nor shut down
    client.close()
    number = child(lambda: expect_closed(client))
    reap(number)


def expect_closed(client: fastrpc.BlockingClient) -> None:
    try:
        client.call("Work.add", 1, 2)
    except fastrpc.ConnectionLost as exc:
        assert "is closed" in str(exc)
    else:
        raise AssertionError("a closed client dialled")


def in_a_coroutine(target: str, loop: str) -> None:
    """In the child no loop runs; one clear message, and a loop of its own will do."""

    async def main() -> None:
        loops_own = await settled()
        async with fastrpc.connect(target) as client:
            assert await client.call("Work.add", 1, 2) == 3
            parents = inodes() - loops_own
            opened = client.call("Work.nap", 0.2)

            def act() -> None:
                with shared_nothing(parents):
                    for attempt in (client.call, client.notify):
                        try:
                            attempt("Work.add", 1, 2)
                        except fastrpc.ConfigError as exc:
                            assert "asyncio.run in the child" in str(exc)
                        else:
                            raise AssertionError("a call went through")
                    run(loop, use())

            async def use() -> None:
                for n in range(20):
                    view = client.options(timeout=5)
                    assert await view.call("Work.echo", f"child {n}") == f"child {n}"
                assert await client.stub(Work).add(1, 2) == 3  # type: ignore[misc]
                await client.aclose()

            number = child(act)
            for n in range(20):
                assert await client.call("Work.echo", f"parent {n}") == f"parent {n}"
            await asyncio.to_thread(reap, number)
            assert await opened == 0.2
            assert await client.call("Work.add", 1, 2) == 3
            assert client._links[0].attempts == 1

    run(loop, main())


def between_two_loops(target: str, loop: str) -> None:
    client = fastrpc.connect(target)

    async def use(word: str) -> None:
        assert await client.options(timeout=5).call("Work.echo", word) == word
        await client.aclose()

    number = child(lambda: run(loop, use("child")))
    run(loop, use("parent"))
    reap(number)


def while_connecting(target: str, loop: str) -> None:
    async def main() -> None:
        loops_own = await settled()
        client = fastrpc.connect(target)
        call = client.call("Work.add", 1, 2)
        for _ in range(6):
            await asyncio.sleep(0)
            parents = inodes() - loops_own

            def act(parents: set[str] = parents) -> None:
                with shared_nothing(parents):
                    run(loop, use())

            number = child(act)
            await asyncio.to_thread(reap, number)
        assert await call == 3
        await client.aclose()

    async def use() -> None:
        client = fastrpc.connect(target)
        assert await client.options(timeout=5).call("Work.add", 1, 2) == 3
        await client.aclose()

    run(loop, main())


def a_server(target: str, loop: str) -> None:
    """A child that lives on keeps neither the port nor the connections of its parent."""

    async def main() -> None:
        loops_own = await settled()
        server = fastrpc.Server()
        server.register(Work())
        await server.start("tcp://127.0.0.1:0")
        mine = server.targets[0]
        before = fastrpc.connect(mine)
        assert await before.call("Work.add", 1, 2) == 3
        parents = inodes() - loops_own
        ready, go = os.pipe(), os.pipe()

        def act() -> None:
            with shared_nothing(parents):
                try:
                    asyncio.run(server.start("tcp://127.0.0.1:0"))
                except fastrpc.ConfigError as exc:
                    assert "make a new one" in str(exc)
                else:
                    raise AssertionError("it started")
                asyncio.run(server.aclose())
                assert server.targets == []
                os.write(ready[1], b"x")
                os.close(go[1])
                os.read(go[0], 1)

        number = child(act)
        await asyncio.to_thread(os.read, ready[0], 1)
        assert await before.call("Work.add", 1, 2) == 3
        async with fastrpc.connect(mine) as second:
            assert await second.call("Work.add", 1, 2) == 3
        await turn_until(lambda: len(sessions_of(server)) == 1)
        (session,) = sessions_of(server)
        session.abort(fastrpc.ConnectionLost("cut"))
        await turn_until(lambda: not before.lanes)  # the end reaches the client
        await before.aclose()
        await server.aclose(grace=0)
        try:
            async with fastrpc.connect(mine, connect_timeout=2):
                raise AssertionError("the child holds the port")
        except fastrpc.ConnectFailed as exc:
            assert "refused" in str(exc)
        os.write(go[1], b"x")
        await asyncio.to_thread(reap, number)

    run(loop, main())


def a_server_before_it_starts(target: str, loop: str) -> None:
    server = fastrpc.Server()
    server.register(Work())

    async def serve() -> None:
        await server.start("tcp://127.0.0.1:0")
        async with fastrpc.connect(server.targets[0]) as client:
            assert await client.call("Work.add", 1, 2) == 3
        await server.aclose(grace=0)

    number = child(lambda: run(loop, serve()))
    run(loop, serve())
    reap(number)


def with_multiprocessing(target: str, loop: str) -> None:
    context = multiprocessing.get_context("fork")
    with fastrpc.connect_sync(target) as client:
        assert client.call("Work.add", 1, 2) == 3

        def act(number: int) -> int:
            client.call("Work.add", number, 0)

            async def use() -> int:
                async with fastrpc.connect(target) as other:
                    return int(await other.call("Work.add", number, number)) // 2

            return asyncio.run(use())

        results = context.Queue()
        workers = [
            context.Process(target=lambda n=n: results.put(act(n)))  # type: ignore[misc]
            for n in range(4)
        ]
        for worker in workers:
            worker.start()
        assert sorted(results.get(timeout=10) for _ in workers) == [0, 1, 2, 3]
        for worker in workers:
            worker.join(10)
            assert worker.exitcode == 0
        assert client.call("Work.add", 1, 2) == 3


def without_descriptors(target: str, loop: str) -> None:
    """A child that can open nothing is told so, and does not read the parent's socket."""
    import resource

    client = fastrpc.connect_sync(target)
    assert client.call("Work.add", 1, 2) == 3
    most = max(int(number) for number in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    def act() -> None:
        try:
            client.call("Work.add", 1, 2)
        except fastrpc.ConnectFailed as exc:
            assert "open files" in str(exc)

    number = child(act)
    reap(number)
    assert most >= 3
    assert client.call("Work.add", 1, 2) == 3
    client.close()


SCENES = {
    scene.__name__: scene
    for scene in (
        blocking,
        blocking_with_a_call_open,
        blocking_with_every_lock_held,
        blocking_with_streams_open,
        blocking_closed_in_the_child,
        in_a_coroutine,
        between_two_loops,
        while_connecting,
        a_server,
        a_server_before_it_starts,
        with_multiprocessing,
        without_descriptors,
    )
}

if __name__ == "__main__":
    SCENES[sys.argv[1]](*sys.argv[2:])
