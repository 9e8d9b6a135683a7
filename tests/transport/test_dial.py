"""Check dialling: options, errors, shares of time, and what a cancel leaves behind."""

import asyncio
import contextlib
import errno
import gc
import importlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastrpc.errors import ConfigError, ConnectFailed
from fastrpc.transport import Listener, TlsOptions, dial, dial_blocking, listen
from fastrpc.transport import resolve as resolving
from fastrpc.transport.resolve import Address
from tests.transport.ends import Client, Echo, descriptors, turn_until

#: Where names are looked up.
REACH = importlib.import_module("fastrpc.transport.reach")


@pytest.fixture(params=["tcp", "unix"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "tcp://127.0.0.1:0" if request.param == "tcp" else f"unix://{tmp_path}/s"


@contextlib.contextmanager
def deaf(family: int, path: Path) -> Iterator[str]:
    """Listen with a backlog that is full, so that nobody is answered."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket(family))
        server.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(path))
        server.listen(0)
        for _ in range(8):
            client = stack.enter_context(socket.socket(family))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(server.getsockname())
        if family == socket.AF_INET:
            yield "tcp://{}:{}".format(*server.getsockname())
        else:
            yield f"unix://{path}"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Let every host have these addresses."""

    async def resolve(host: str, port: int) -> list[Address]:
        return resolve_blocking(host, port)

    def resolve_blocking(host: str, port: int) -> list[Address]:
        return [Address(socket.AF_INET, (each, port)) for each in hosts]

    monkeypatch.setattr(REACH, "resolve", resolve)
    monkeypatch.setattr(REACH, "resolve_blocking", resolve_blocking)


def exhaust(stack: contextlib.ExitStack) -> None:
    """Take every file descriptor this process may still have."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
    highest = max(int(each.partition("=")[0]) for each in descriptors())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limit[1]))
    with contextlib.suppress(OSError):
        while True:
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))


async def served(target: str) -> tuple[Listener, str]:
    """Listen, and use it once: the loops open descriptors of their own when needed."""
    echoes: list[Echo] = []

    def accept() -> Echo:
        echoes.append(Echo())
        return echoes[-1]

    listener = await listen(target, accept)
    transport, client = await dial(listener.targets[0], Client, timeout=5)
    transport.write(b"x")
    await client.got
    transport.abort()
    await client.lost
    await turn_until(lambda: echoes[0].is_lost)
    return listener, listener.targets[0]


async def reach(target: str, blocking: bool) -> None:
    """Connect one way or the other; for targets that refuse."""
    if blocking:
        dial_blocking(target, 1).close()
    else:
        await dial(target, Client, timeout=1)


@pytest.mark.asyncio
async def test_options_of_a_dialled_and_an_accepted_stream() -> None:
    accepted: list[Echo] = []

    def accept() -> Echo:
        accepted.append(Echo())
        return accepted[-1]

    listener = await listen("tcp://127.0.0.1:0", accept)
    transport, client = await dial(listener.targets[0], Client, timeout=1)
    transport.write(b"x")
    await client.got
    for end in (transport, accepted[0].transport):
        sock = end.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    transport.abort()
    listener.close()
    await client.lost


@pytest.mark.asyncio
async def test_factory_is_called_once_and_only_after_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Client] = []

    def make() -> Client:
        made.append(Client())
        return made[-1]

    with pytest.raises(ConnectFailed):
        await dial(f"tcp://127.0.0.1:{free_port()}", make, timeout=1)
    assert not made
    listener, target = await served("tcp://127.0.0.1:0")
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1")  # nobody listens at the first
    transport, client = await dial(target.replace("127.0.0.1", "two.example"), make, timeout=1)
    assert made == [client]
    transport.abort()
    listener.close()
    await client.lost


@pytest.mark.asyncio
async def test_factory_that_raises_is_the_callers_own_error() -> None:
    def fail() -> Client:
        raise OSError("mine")

    listener, target = await served("tcp://127.0.0.1:0")
    before = descriptors()
    with pytest.raises(OSError, match=r"^mine$"):
        await dial(target, fail, timeout=1)
    await turn_until(lambda: len(descriptors()) == len(before))
    listener.close()


@pytest.mark.asyncio
async def test_a_connection_that_breaks_before_its_handshake_is_closed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """uvloop closes its number and forgets to tell the socket object: see `dial._let_go`."""
    listener, target = await served("tcp://127.0.0.1:0")
    broken = REACH.reach

    async def reach(*args: object) -> socket.socket:
        sock: socket.socket = await broken(*args)
        sock.shutdown(socket.SHUT_RDWR)
        return sock

    monkeypatch.setattr(importlib.import_module("fastrpc.transport.dial"), "reach", reach)
    for _ in range(20):
        strangers: list[socket.socket] = []
        with pytest.raises(ConnectFailed) as failed:
            await dial(target, Client, timeout=5, tls=TlsOptions(verify="insecure_nobody"))
        strangers += [socket.socket() for _ in range(4)]
        del failed
        gc.collect()
        for stranger in strangers:
            os.fstat(stranger.fileno())
            stranger.close()
    listener.close()
    await listener.wait_closed()


@pytest.mark.asyncio
async def test_loop_that_cannot_take_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "too many watches")

    listener, target = await served("tcp://127.0.0.1:0")
    before = descriptors()
    with monkeypatch.context() as broken:
        broken.setattr(asyncio.get_running_loop(), "connect_accepted_socket", refuse)
        with pytest.raises(ConnectFailed, match=r"No space left on device \(ENOSPC\)\) after 0\."):
            await dial(target, Client, timeout=1)
    # Those who wait in the backlog are accepted meanwhile, and go.
    await turn_until(lambda: descriptors() <= before)
    listener.close()


@pytest.mark.asyncio
async def test_no_time_at_all() -> None:
    listener, target = await served("tcp://127.0.0.1:0")
    with pytest.raises(ConnectFailed, match=r"no answer in \d\.\d{3} s"):
        await dial(target, Client, timeout=0)
    with pytest.raises(ConnectFailed, match=r"no answer in \d\.\d{3} s"):
        dial_blocking(target, 0)
    listener.close()


@pytest.mark.asyncio
async def test_cancel_at_every_loop_step_leaves_nothing_open(target: str) -> None:
    listener, real = await served(target)
    before = descriptors()
    steps = 0
    finished = False
    while not finished:
        lost: list[Client] = []

        def make(lost: list[Client] = lost) -> Client:
            lost.append(Client())
            return lost[-1]

        dialling = asyncio.ensure_future(dial(real, make, timeout=5))
        for _ in range(steps):
            await asyncio.sleep(0)
        dialling.cancel()
        await asyncio.wait([dialling])
        finished = not dialling.cancelled()
        if finished:
            dialling.result()[0].abort()
        for client in lost:
            assert await client.lost is None
        await turn_until(lambda: descriptors() == before)
        steps += 1
        assert steps < 1000
    assert steps > 3, "the cancel never met a dial under way"
    listener.close()


@pytest.mark.asyncio
async def test_cancel_while_nobody_answers_leaves_nothing_open(tmp_path: Path) -> None:
    for family in (socket.AF_INET, socket.AF_UNIX):
        with deaf(family, tmp_path / "s") as target:
            before = descriptors()
            dialling = asyncio.ensure_future(dial(target, Client, timeout=5))
            for _ in range(10):
                await asyncio.sleep(0)
            dialling.cancel()
            await asyncio.wait([dialling])
            assert dialling.cancelled()
            assert descriptors() == before


@pytest.mark.asyncio
async def test_cancel_of_every_task_leaves_nothing_open(target: str) -> None:
    # `asyncio.run` does so at its end, also with the tasks that hand sockets over.
    listener, real = await served(target)
    before = descriptors()
    for steps in range(40):
        dialling = asyncio.ensure_future(dial(real, Client, timeout=5))
        for _ in range(steps):
            await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.wait([dialling])
        if not dialling.cancelled():
            dialling.result()[0].abort()
        await turn_until(lambda: descriptors() == before)
    listener.close()
    await listener.wait_closed()


@pytest.mark.asyncio
@pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])
async def test_refusal_tells_target_address_reason_and_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blocking: bool
) -> None:
    async def fail(target: str) -> str:
        with pytest.raises(ConnectFailed) as caught:
            await reach(target, blocking)
        assert caught.value.ran == "no"
        assert caught.value.status == 10
        return str(caught.value)

    port = free_port()
    text = await fail(f"tcp://[::1]:{port}")
    assert text.startswith(
        f"can't connect to tcp://[::1]:{port} ([::1]:{port}: Connection refused (ECONNREFUSED))"
        " after 0."
    )
    assert f"({tmp_path}/no: No such file or directory (ENOENT))" in await fail(
        f"unix://{tmp_path}/no"
    )
    assert "(@fastrpc-nobody: Connection refused (ECONNREFUSED))" in await fail(
        "unix://@fastrpc-nobody"
    )
    resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
    text = await fail(f"tcp://two.example:{port}")
    assert f"127.0.0.1:{port}: Connection refused (ECONNREFUSED); 127.0.0.2:{port}: Conn" in text
    resolve_to(monkeypatch)
    assert "(the name has no address)" in await fail(f"tcp://none.example:{port}")


@pytest.mark.asyncio
async def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getaddrinfo_async(*_: object, **__: object) -> list[object]:
        return getaddrinfo()

    monkeypatch.setattr(resolving, "literal", lambda *_: [])
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    loop = asyncio.get_running_loop()
    with contextlib.suppress(AttributeError):  # uvloop asks libc itself
        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo_async)
    says = r"tcp://no\.invalid:7 \(name lookup failed: Name or service not known\) after"
    with pytest.raises(ConnectFailed, match=says):
        await dial("tcp://no.invalid:7", Client, timeout=2)
    with pytest.raises(ConnectFailed, match=says):
        dial_blocking("tcp://no.invalid:7", 2)


@pytest.mark.asyncio
async def test_name_lookup_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, port: int) -> list[Address]:
        await asyncio.get_running_loop().create_future()
        return []

    monkeypatch.setattr(REACH, "resolve", resolve)
    with pytest.raises(ConnectFailed, match="name lookup did not end"):
        await dial("tcp://slow.example:7", Client, timeout=0.01)


@pytest.mark.asyncio
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
async def test_nobody_answers_in_time(family: int, tmp_path: Path) -> None:
    with deaf(family, tmp_path / "s") as target:
        before = descriptors()
        with pytest.raises(ConnectFailed, match=r"no answer in \d\.\d{3} s\) after \d\.\d{3} s"):
            await dial(target, Client, timeout=0.03)
        with pytest.raises(ConnectFailed, match=r"no answer in \d\.\d{3} s\) after \d\.\d{3} s"):
            dial_blocking(target, 0.03)
        assert descriptors() == before


@pytest.mark.slow
@pytest.mark.asyncio
async def test_dead_address_costs_only_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    with deaf(socket.AF_INET, Path()) as target:
        listener = await listen(target.replace("127.0.0.1", "127.0.0.2"), Echo)
        resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
        named = target.replace("127.0.0.1", "two.example")
        started = time.monotonic()
        transport, client = await dial(named, Client, timeout=1.0)
        assert time.monotonic() - started >= 0.49  # uvloop counts milliseconds
        transport.abort()
        await client.lost
        dial_blocking(named, 1.0).close()
        listener.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])
async def test_full_unix_backlog_is_waited_for(tmp_path: Path, blocking: bool) -> None:
    # asyncio's own connect takes the kernel's EAGAIN for a connection.
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(f"{tmp_path}/s")
        server.listen(0)
        first.connect(f"{tmp_path}/s")
        target = f"unix://{tmp_path}/s"
        dialling: asyncio.Future[socket.socket | tuple[asyncio.Transport, Client]]
        if blocking:
            dialling = asyncio.ensure_future(asyncio.to_thread(dial_blocking, target, 5))
        else:
            dialling = asyncio.ensure_future(dial(target, Client, timeout=5))
        await asyncio.sleep(0.01)
        assert not dialling.done()
        server.accept()[0].close()
        done = await dialling
        server.accept()[0].close()
        if isinstance(done, tuple):
            await done[1].lost
        else:
            assert done.gettimeout() is None
            done.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])
async def test_no_descriptor_left(blocking: bool) -> None:
    listener, target = await served("tcp://127.0.0.1:0")
    with contextlib.ExitStack() as stack:
        exhaust(stack)
        with pytest.raises(ConnectFailed, match=r"Too many open files \(EMFILE\)"):
            await reach(target, blocking)
    transport, client = await dial(target, Client, timeout=1)
    transport.abort()
    await client.lost
    listener.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("tcp://:7000", "no host to connect to"),
        ("tcp://*:7000", "no host to connect to"),
        ("tcp://localhost:0", "port 0 is only for listening"),
        ("etcd://localhost:1", "of a registry"),
    ],
)
async def test_targets_that_cannot_be_dialled(target: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        await dial(target, Client, timeout=1)
    with pytest.raises(ConfigError, match=says):
        dial_blocking(target, 1)


def test_memory_needs_a_loop() -> None:
    with pytest.raises(ConfigError, match="mem:// needs an event loop"):
        dial_blocking("mem://x", 1)


def test_a_connection_to_itself_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    # The kernel joins a socket to itself when source and target port are the same.
    real = socket.socket.connect

    def connect(sock: socket.socket, address: tuple[str, int]) -> None:
        sock.bind(address)
        real(sock, address)

    port = free_port()
    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(ConnectFailed, match=r"Connection refused \(ECONNREFUSED\)"):
        dial_blocking(f"tcp://127.0.0.1:{port}", 1)


@pytest.mark.asyncio
async def test_blocking_socket_works(target: str) -> None:
    listener, real = await served(target)

    def call() -> bytes:
        with dial_blocking(real, 1) as sock:
            assert sock.gettimeout() is None
            sock.sendall(b"hello")
            return sock.recv(5)

    assert await asyncio.to_thread(call) == b"hello"
    listener.close()


@pytest.mark.asyncio
async def test_numbers_never_wait_for_a_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise AssertionError("asked a resolver")

    loop = asyncio.get_running_loop()
    with contextlib.suppress(AttributeError):
        monkeypatch.setattr(loop, "getaddrinfo", refuse)
    for host in ("127.0.0.1", "::1", "0.0.0.0", "::"):
        assert [address.sockaddr[0] for address in await resolving.resolve(host, 1)] == [host]


def test_errors_in_words() -> None:
    assert resolving.explain(OSError(errno.EPERM, "whatever")) == "Operation not permitted (EPERM)"
    assert resolving.explain(OSError("only words")) == "only words"
    assert resolving.explain(OSError()) == "OSError"
    assert "99999" in resolving.explain(OSError(99999, ""))
