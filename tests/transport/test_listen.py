"""Check listening: addresses, ports, socket files, and what is left after a close."""

import asyncio
import errno
import os
import resource
import socket
from pathlib import Path

import pytest

from fastrpc.errors import ConnectFailed, TransportError
from fastrpc.transport import Listener, connection_cap, dial, listen, parse_target
from fastrpc.transport.bind import bind_tcp
from fastrpc.transport.resolve import Address
from tests.transport.ends import Client, Echo, descriptors, turn_until


async def answers(target: str) -> bool:
    try:
        transport, client = await dial(target, Client, timeout=5)
    except ConnectFailed:
        return False
    transport.write(b"x")
    await client.got
    transport.abort()
    await client.lost
    return True


async def close(listener: Listener) -> None:
    listener.close()
    await listener.wait_closed()
    await asyncio.sleep(0)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("target", "hosts"),
    [
        ("tcp://127.0.0.1:0", ["127.0.0.1"]),
        ("tcp://[::1]:0", ["[::1]"]),
        ("tcp://0.0.0.0:0", ["0.0.0.0"]),
        ("tcp://:0", ["0.0.0.0", "[::]"]),
        ("tcp://*:0", ["0.0.0.0", "[::]"]),
        ("tcp://[::]:0", ["0.0.0.0", "[::]"]),
    ],
)
async def test_targets_are_real_and_can_be_dialled(target: str, hosts: list[str]) -> None:
    listener = await listen(target, Echo)
    found = [parse_target(each) for each in listener.targets]
    assert [str(each).rpartition(":")[0] for each in found] == [f"tcp://{host}" for host in hosts]
    assert len({each.port for each in found}) == 1
    assert found[0].port != 0
    assert repr(listener) == f"<Listener {' '.join(listener.targets)}>"
    for each in listener.targets:
        assert await answers(each)
    await close(listener)
    for each in listener.targets:
        assert not await answers(each)


@pytest.mark.asyncio
async def test_taken_port_says_so_and_leaves_nothing_open() -> None:
    listener = await listen("tcp://127.0.0.1:0", Echo)
    before = descriptors()
    says = r"can't listen on (tcp://127.0.0.1:\d+): 127.0.0.1:\d+: Address already in use \(EADDRI"
    with pytest.raises(TransportError, match=says):
        await listen(listener.targets[0], Echo)
    assert descriptors() == before
    await close(listener)


@pytest.mark.asyncio
async def test_foreign_address() -> None:
    with pytest.raises(TransportError, match=r"192\.0\.2\.77:0: Cannot assign.*\(EADDRNOTAVAIL\)"):
        await listen("tcp://192.0.2.77:0", Echo)


@pytest.mark.asyncio
async def test_unknown_host() -> None:
    with pytest.raises(TransportError, match=r"can't listen on tcp://no\.invalid:0: name lookup"):
        await listen("tcp://no.invalid:0", Echo)


def test_second_address_needs_the_port_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [Address(socket.AF_INET, (host, 0)) for host in ("127.0.0.1", "127.0.0.2")]
    target = parse_target("tcp://two.example:0")
    real = socket.socket.bind
    seen: list[tuple[str, int]] = []

    def bind(sock: socket.socket, address: tuple[str, int]) -> None:
        seen.append(address)
        if len(seen) == 2:
            raise OSError(errno.EADDRINUSE, "taken")
        real(sock, address)

    monkeypatch.setattr(socket.socket, "bind", bind)
    sockets = bind_tcp(target, addresses, 5)
    ports = {sock.getsockname()[1] for sock in sockets}
    assert [sock.getsockname()[0] for sock in sockets] == ["127.0.0.1", "127.0.0.2"]
    assert len(ports) == 1
    assert [host for host, _ in seen] == ["127.0.0.1", "127.0.0.2"] * 2
    for sock in sockets:
        sock.close()


def test_no_common_port_in_all_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [Address(socket.AF_INET, (host, 0)) for host in ("127.0.0.1", "127.0.0.2")]
    real = socket.socket.bind

    def bind(sock: socket.socket, address: tuple[str, int]) -> None:
        if address[0] == "127.0.0.2":
            raise OSError(errno.EADDRINUSE, "taken")
        real(sock, address)

    monkeypatch.setattr(socket.socket, "bind", bind)
    before = descriptors()
    with pytest.raises(TransportError, match=r"127\.0\.0\.2:0: Address already in use"):
        bind_tcp(parse_target("tcp://two.example:0"), addresses, 5)
    assert descriptors() == before


def test_machine_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    v4, v6 = Address(socket.AF_INET, ("127.0.0.1", 0)), Address(socket.AF_INET6, ("::1", 0, 0, 0))
    real = socket.socket.bind

    def bind(sock: socket.socket, address: tuple[str, int]) -> None:
        if sock.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "no IPv6")
        real(sock, address)

    monkeypatch.setattr(socket.socket, "bind", bind)
    target = parse_target("tcp://localhost:0")
    (only,) = bind_tcp(target, [v6, v4], 5)
    assert only.family == socket.AF_INET
    only.close()
    with pytest.raises(TransportError, match=r"\[::1\]:0: Cannot assign requested address"):
        bind_tcp(target, [v6], 5)
    with pytest.raises(TransportError, match="it has no address"):
        bind_tcp(target, [], 5)


@pytest.mark.asyncio
async def test_socket_file_comes_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = await listen(f"unix://{path}", Echo)
    assert listener.targets == [f"unix://{path}"]
    assert path.is_socket()
    assert await answers(listener.targets[0])
    await close(listener)
    assert not path.exists()
    listener.close()


@pytest.mark.asyncio
async def test_file_of_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    listener = await listen(f"unix://{path}", Echo)
    assert await answers(listener.targets[0])
    await close(listener)


@pytest.mark.asyncio
async def test_file_of_a_living_server_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = await listen(f"unix://{path}", Echo)
    assert await answers(listener.targets[0])  # the loop opens what it will need
    before = descriptors()
    with pytest.raises(TransportError, match=r"Address already in use \(EADDRINUSE\)"):
        await listen(f"unix://{path}", Echo)
    assert await answers(listener.targets[0])
    await turn_until(lambda: descriptors() <= before)
    await close(listener)
    # Also if it is too busy to accept: its backlog is full.
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(str(path))
        busy.listen(0)
        client.connect(str(path))
        with pytest.raises(TransportError, match=r"Address already in use \(EADDRINUSE\)"):
            await listen(f"unix://{path}", Echo)
    assert path.exists()


@pytest.mark.asyncio
async def test_other_file_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(TransportError, match=r"File exists \(EEXIST\)"):
        await listen(f"unix://{path}", Echo)
    assert path.read_text() == "precious"


@pytest.mark.asyncio
async def test_file_that_is_no_longer_ours_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    old = await listen(f"unix://{path}", Echo)
    path.unlink()
    new = await listen(f"unix://{path}", Echo)
    await close(old)
    assert await answers(new.targets[0])
    path.unlink()
    await close(new)  # nothing there: fine, too


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", [0o600, 0o666, 0o777])
async def test_mode_of_the_file(tmp_path: Path, mode: int) -> None:
    listener = await listen(f"unix://{tmp_path}/s", Echo, mode=mode)
    assert os.stat(tmp_path / "s").st_mode & 0o777 == mode
    await close(listener)


@pytest.mark.asyncio
async def test_folder_that_is_missing(tmp_path: Path) -> None:
    before = descriptors()
    with pytest.raises(TransportError, match=r"No such file or directory \(ENOENT\)"):
        await listen(f"unix://{tmp_path}/no/s", Echo)
    assert descriptors() == before


@pytest.mark.asyncio
async def test_memory_name_is_taken_and_given_back() -> None:
    listener = await listen("mem://here", Echo)
    assert listener.targets == ["mem://here"]
    with pytest.raises(TransportError, match=r"can't listen on mem://here: somebody listens"):
        await listen("mem://here", Echo)
    await close(listener)
    again = await listen("mem://here", Echo)
    listener.close()  # must not take the name from its successor
    assert await answers("mem://here")
    await close(again)


@pytest.mark.parametrize(
    ("limit", "cap"),
    [(64, 51), (1024, 819), (12_500, 10_000), (1_000_000, 10_000), (1, 1), (-1, 10_000)],
)
def test_connection_cap(monkeypatch: pytest.MonkeyPatch, limit: int, cap: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, -1))
    assert connection_cap() == cap
