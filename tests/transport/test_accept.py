"""Check the acceptor when descriptors run out, factories fail, or clients flood."""

import asyncio
import contextlib
import errno
import os
import resource
import socket
import time
from collections.abc import Iterator

import pytest

from fastrpc.transport import listen, parse_target
from fastrpc.transport.accept import ACCEPTS_PER_STEP, Acceptor
from tests.transport.ends import Echo, descriptors, turn_until


def listening() -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.bind(("127.0.0.1", 0))
    sock.listen(1024)
    return sock


@contextlib.contextmanager
def clients(count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in made:
            sock.setblocking(False)
        yield made


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Let the process open only so many more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = sorted(int(each.partition("=")[0]) for each in descriptors())
    free = (number for number in range(soft) if number not in taken)
    limit = [next(free) for _ in range(count + 1)][-1]
    # Numbers above the limit stay open; only new ones must be below.
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def sockets() -> set[str]:
    return {each for each in descriptors() if "socket:" in each}  # uvloop opens /dev/null


def connect(sock: socket.socket, target: str) -> None:
    place = parse_target(target)
    with contextlib.suppress(BlockingIOError):
        sock.connect((place.host, place.port))


async def answered(sock: socket.socket) -> bool:
    """Tell whether the server speaks to this client; False if it hung up."""
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(sock, b"x")
        return await loop.sock_recv(sock, 1) == b"x"
    except (ConnectionError, BrokenPipeError):
        return False


@pytest.mark.asyncio
async def test_without_descriptors_newcomers_are_told_and_the_rest_goes_on() -> None:
    echoes: list[Echo] = []

    def make() -> Echo:
        echoes.append(Echo())
        return echoes[-1]

    listener = await listen("tcp://127.0.0.1:0", make)
    with clients(40) as made, descriptors_left(5):
        first, late, *others = made
        async with asyncio.timeout(10):
            connect(first, listener.targets[0])
            assert await answered(first)
            for sock in others:
                connect(sock, listener.targets[0])
            results = [await answered(sock) for sock in others]
            assert 1 <= sum(results) < 5, "some got in, the rest were hung up on, none hangs"
            assert await answered(first), "a connection that was open is still served"
            spent = time.process_time()
            await asyncio.sleep(0.05)
            assert time.process_time() - spent < 0.04, "the acceptor spins"
            others[results.index(True)].close()
            await turn_until(lambda: any(echo.is_lost for echo in echoes))
            connect(late, listener.targets[0])
            assert await answered(late), "one went, so the next one gets in"
        listener.close()
        await listener.wait_closed()
    await turn_until(lambda: all(echo.is_lost for echo in echoes))


@pytest.mark.asyncio
async def test_without_even_a_reserve_it_waits_and_comes_back() -> None:
    loop = asyncio.get_running_loop()
    sock = listening()
    target = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
    with clients(2) as made, contextlib.ExitStack() as stack:
        with descriptors_left(0):
            acceptor = Acceptor(loop, sock, Echo)  # finds no reserve
            connect(made[0], target)
            spent = time.process_time()
            await asyncio.sleep(0.05)
            assert time.process_time() - spent < 0.04, "the acceptor spins"
        async with asyncio.timeout(5):
            assert await answered(made[0]), "it was left in the backlog, then accepted"
        stack.callback(acceptor.close)


@pytest.mark.asyncio
async def test_close_while_waiting_for_a_descriptor() -> None:
    loop = asyncio.get_running_loop()
    sock = listening()
    target = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
    with clients(1) as made, descriptors_left(0):
        acceptor = Acceptor(loop, sock, Echo)
        connect(made[0], target)
        await asyncio.sleep(0.01)
        acceptor.close()
        acceptor.close()
        await asyncio.sleep(0.06)  # the retry would have come, to a closed socket


@pytest.mark.asyncio
async def test_no_memory_in_the_kernel_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [errno.ENOMEM, errno.ENOBUFS]
    real = socket.socket.accept

    def accept(sock: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise OSError(failures.pop(), "no memory")
        return real(sock)

    monkeypatch.setattr(socket.socket, "accept", accept)
    listener = await listen("tcp://127.0.0.1:0", Echo)
    with clients(1) as made:
        connect(made[0], listener.targets[0])
        async with asyncio.timeout(5):
            assert await answered(made[0])
    listener.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "number", [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.EHOSTUNREACH, errno.EPERM]
)
async def test_failure_of_one_newcomer_is_not_the_listeners(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failures = [number] * 3
    real = socket.socket.accept

    def accept(sock: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise OSError(failures.pop(), os.strerror(number))
        return real(sock)

    monkeypatch.setattr(socket.socket, "accept", accept)
    listener = await listen("tcp://127.0.0.1:0", Echo)
    with clients(1) as made:
        connect(made[0], listener.targets[0])
        assert await answered(made[0])
    listener.close()


@pytest.mark.asyncio
async def test_factory_that_raises_costs_one_connection() -> None:
    told: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    made_before: list[int] = []

    def make() -> Echo:
        made_before.append(1)
        if len(made_before) == 1:
            raise LookupError("no protocol today")
        return Echo()

    listener = await listen("tcp://127.0.0.1:0", make)
    with clients(2) as made:
        connect(made[0], listener.targets[0])
        assert not await answered(made[0])
        connect(made[1], listener.targets[0])
        assert await answered(made[1])
    assert [type(error) for error in told] == [LookupError]
    listener.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("steps", range(5))
async def test_a_cancelled_start_closes_its_descriptor_once(steps: int) -> None:
    # Before its first step the socket is ours, later the loop's; its number may have been
    # given to somebody else by the time the task's end is noticed.
    loop = asyncio.get_running_loop()
    told: list[object] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    strangers: list[tuple[socket.socket, int]] = []

    def take_numbers() -> None:
        fresh = [socket.socket() for _ in range(4)]
        strangers.extend((each, each.fileno()) for each in fresh)

    before = sockets()
    sock = listening()
    acceptor = Acceptor(loop, sock, Echo)
    with clients(1) as (client,):
        connect(client, f"tcp://127.0.0.1:{sock.getsockname()[1]}")
        while not acceptor._starting:
            await asyncio.sleep(0)
        (task,) = acceptor._starting
        for _ in range(steps):
            await asyncio.sleep(0)
        was_done = task.done()
        task.cancel()
        for _ in range(6):
            loop.call_soon(take_numbers)
            await asyncio.sleep(0)
        await acceptor.wait_closed()
        if was_done:  # it became a connection in time
            task.result()[0].abort()  # type: ignore[index]
        acceptor.close()
        for _ in range(6):
            take_numbers()
            await asyncio.sleep(0)
    for each, number in strangers:
        os.fstat(number)  # nobody has closed it
        each.close()
    assert told == []
    await turn_until(lambda: sockets() == before)


@pytest.mark.asyncio
async def test_flood_gets_a_bounded_part_of_a_loop_step() -> None:
    made_by_now: list[Echo] = []

    def make() -> Echo:
        made_by_now.append(Echo())
        return made_by_now[-1]

    listener = await listen("tcp://127.0.0.1:0", make)
    count = 2 * ACCEPTS_PER_STEP + 5
    with clients(count) as made:
        for sock in made:
            connect(sock, listener.targets[0])
        most = seen = 0
        while seen < count:
            await asyncio.sleep(0)
            most = max(most, len(made_by_now) - seen)
            seen = len(made_by_now)
        assert most <= ACCEPTS_PER_STEP
    listener.close()
    await listener.wait_closed()
    await turn_until(lambda: all(echo.is_lost for echo in made_by_now))


@pytest.mark.asyncio
async def test_factory_may_close_the_listener() -> None:
    made_by_now: list[Echo] = []

    def make() -> Echo:
        listener.close()
        made_by_now.append(Echo())
        return made_by_now[-1]

    listener = await listen("tcp://127.0.0.1:0", make)
    with clients(3) as made:
        for sock in made:
            connect(sock, listener.targets[0])
        assert await answered(made[0])
        assert [await answered(sock) for sock in made[1:]] == [False, False]
    assert len(made_by_now) == 1


@pytest.mark.asyncio
async def test_after_wait_closed_nobody_is_connected_any_more() -> None:
    made_by_now: list[Echo] = []

    class Late(Echo):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            made_by_now.append(self)

    for steps in range(6):
        listener = await listen("tcp://127.0.0.1:0", Late)
        with clients(8) as made:
            for sock in made:
                connect(sock, listener.targets[0])
            for _ in range(steps):
                await asyncio.sleep(0)
            listener.close()
            await listener.wait_closed()
            known = len(made_by_now)
            await asyncio.sleep(0.002)
            assert len(made_by_now) == known
    await turn_until(lambda: all(echo.is_lost for echo in made_by_now))
