"""Check who gets in at a listener that encrypts: caps, deadlines, and those who don't encrypt."""

import asyncio
import socket
import ssl
from typing import Any

import pytest

from fastrpc.errors import ConfigError
from fastrpc.transport import Listener, ServerTls, dial, listen, parse_target
from fastrpc.transport.threshold import Threshold
from tests.transport import certs
from tests.transport.ends import Client, Echo, sockets, turn_until

#: The beginning of a handshake, and no more.
HALF_HELLO = bytes.fromhex("16030100c8010000c40303")


def threshold_of(listener: Listener) -> Threshold:
    (found,) = (each for each in listener._accepting if isinstance(each, Threshold))
    return found


async def raw(listener: Listener, data: bytes = b"") -> socket.socket:
    """Connect and send *data* as it is."""
    place = parse_target(listener.targets[0])
    sock = socket.socket()
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (place.host, place.port))
    if data:
        await loop.sock_sendall(sock, data)
    return sock


async def rest(sock: socket.socket) -> bytes:
    """Return all that comes until the end; b"reset" if that is how it ends."""
    loop = asyncio.get_running_loop()
    found = b""
    try:
        async with asyncio.timeout(5):
            while data := await loop.sock_recv(sock, 65536):
                found += data
    except ConnectionResetError:
        found = found or b"reset"
    finally:
        sock.close()
    return found


def noted(**options: Any) -> tuple[ServerTls, list[str]]:
    tls, refused = certs.server_tls(**options), []
    tls.on_refused = lambda _, why: refused.append(why)
    return tls, refused


def half_done() -> bytes:
    """Return a whole hello of a client, after which it could go on."""
    out = ssl.MemoryBIO()
    end = certs.client_tls().context(0).wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        end.do_handshake()
    return out.read()


async def echoes(listener: Listener, **options: Any) -> bool:
    target = listener.targets[0].replace("tcp:", "tls:")
    transport, client = await dial(target, Client, timeout=5, tls=certs.client_tls(**options))
    transport.write(b"ping")
    answer = await client.got
    transport.close()
    await client.lost
    return answer == b"ping"


@pytest.mark.asyncio
async def test_a_target_that_encrypts_needs_a_certificate() -> None:
    for target in ("tls://127.0.0.1:0", "wss://127.0.0.1:0", "https://127.0.0.1:0/x"):
        with pytest.raises(ConfigError, match="give a certificate"):
            await listen(target, Echo)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("given", "plain", "real"),
    [
        ("tls://127.0.0.1:0", "refuse", "tls"),
        ("tls://127.0.0.1:0", "allow", "tls"),
        ("tcp://127.0.0.1:0", "refuse", "tls"),
        ("tcp://127.0.0.1:0", "allow", "tcp"),
        ("ws://127.0.0.1:0/chat", "refuse", "wss"),
        ("https://127.0.0.1:0/rpc", "refuse", "https"),
    ],
)
async def test_targets_say_how_to_come_in(given: str, plain: Any, real: str) -> None:
    listener = await listen(given, Echo, tls=certs.server_tls(), plain=plain)
    found = parse_target(listener.targets[0])
    assert (found.scheme, found.path.strip("/")) == (real, parse_target(given).path.strip("/"))
    assert found.port
    listener.close()


@pytest.mark.asyncio
async def test_unix_sockets_need_no_tls(tmp_path: Any) -> None:
    listener = await listen(f"unix://{tmp_path}/s", Echo, tls=certs.server_tls())
    transport, client = await dial(listener.targets[0], Client, timeout=5)
    transport.write(b"x")
    assert await client.got == b"x"
    transport.close()
    listener.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
        (b"\xfaW\x01\x00" + bytes(28), b""),
        (b'{"jsonrpc": "2.0"}', b""),
        (b"\x80\x2e\x01", b""),
    ],
)
async def test_plain_bytes_are_refused_and_parsed_by_nobody(said: bytes, answer: bytes) -> None:
    """T23."""
    made: list[Echo] = []

    def make() -> Echo:
        made.append(Echo())
        return made[-1]

    tls, refused = noted()
    before = sockets()
    listener = await listen("tls://127.0.0.1:0", make, tls=tls, plain="allow")
    found = await rest(await raw(listener, said))
    assert found.startswith(answer) if answer else found in (b"", b"reset")
    assert not answer or b"speaks TLS" in found
    assert refused == ["it does not speak TLS"]
    assert made == []
    listener.close()
    await turn_until(lambda: sockets() == before)


@pytest.mark.asyncio
async def test_where_plain_is_allowed_both_get_in_and_no_byte_is_lost() -> None:
    listener = await listen("tcp://127.0.0.1:0", Echo, tls=certs.server_tls(), plain="allow")
    loop = asyncio.get_running_loop()
    sock = await raw(listener, b"first words")
    assert await loop.sock_recv(sock, 100) == b"first words"
    sock.close()
    assert await echoes(listener)
    listener.close()


@pytest.mark.asyncio
async def test_the_silent_are_closed_and_cost_no_handshake() -> None:
    tls, refused = noted(handshake_timeout=0.05)
    listener = await listen("tls://127.0.0.1:0", Echo, tls=tls)
    assert await rest(await raw(listener)) == b""
    assert refused == ["no handshake began in 0.05 s (handshake_timeout)"]
    listener.close()


@pytest.mark.asyncio
async def test_a_handshake_that_stalls_is_closed() -> None:
    tls, refused = noted(handshake_timeout=0.05)
    listener = await listen("tls://127.0.0.1:0", Echo, tls=tls)
    assert await rest(await raw(listener, HALF_HELLO)) == b""
    await turn_until(lambda: refused)
    assert "taking longer than 0.05 seconds" in refused[0]
    listener.close()


@pytest.mark.asyncio
async def test_who_leaves_again_is_no_refusal() -> None:
    tls, refused = noted()
    listener = await listen("tls://127.0.0.1:0", Echo, tls=tls)
    for _ in range(3):
        (await raw(listener)).close()
    await turn_until(lambda: True)
    assert await echoes(listener)
    assert threshold_of(listener).waiting == 0
    assert refused == []
    listener.close()


@pytest.mark.asyncio
async def test_only_so_many_shake_hands_and_the_next_waits_unread() -> None:
    tls, refused = noted(max_handshakes=2)
    listener = await listen("tls://127.0.0.1:0", Echo, tls=tls)
    gate = threshold_of(listener)
    stalled = [await raw(listener, HALF_HELLO) for _ in range(2)]
    await turn_until(lambda: gate.handshakes == 2)
    good = asyncio.create_task(echoes(listener))
    await turn_until(lambda: gate.waiting == 1)
    assert gate.handshakes == 2
    stalled.pop().close()
    assert await good, "one has gone, so the next one gets in"
    assert refused == ["closed in the middle of the handshake"]
    stalled.pop().close()
    listener.close()
    await listener.wait_closed()


@pytest.mark.asyncio
async def test_while_others_wait_half_done_handshakes_make_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastrpc.transport.threshold.HURRIED", 0.05)
    tls, refused = noted(max_handshakes=2)
    listener = await listen("tls://127.0.0.1:0", Echo, tls=tls)
    gate = threshold_of(listener)
    stalled = [await raw(listener, HALF_HELLO) for _ in range(5)]
    await turn_until(lambda: (gate.handshakes, gate.waiting) == (2, 3))
    assert await echoes(listener), "the newest of those who wait is the first to get in"
    await turn_until(lambda: gate.waiting == 0)
    assert set(refused) == {"it takes long, and others wait"}
    assert 1 <= gate.handshakes <= 2, "nobody waits any more, so the last have their time"
    for sock in stalled:
        sock.close()
    listener.close()
    await listener.wait_closed()


@pytest.mark.asyncio
async def test_of_more_than_may_wait_the_oldest_is_closed() -> None:
    tls, refused = noted(max_waiting=3)
    listener = await listen("tls://127.0.0.1:0", Echo, tls=tls)
    gate = threshold_of(listener)
    silent = []
    for _ in range(5):
        silent.append(await raw(listener))
        await turn_until(lambda: gate.waiting == min(len(silent), 3))
    assert [await rest(sock) for sock in silent[:2]] == [b"", b""]
    assert refused == ["more connections wait than max_waiting"] * 2
    assert await echoes(listener), "the newest gets in"
    for sock in silent[2:]:
        sock.close()
    listener.close()
    await listener.wait_closed()


@pytest.mark.asyncio
@pytest.mark.parametrize("steps", range(8))
async def test_closing_the_listener_closes_all_on_the_way_in(steps: int) -> None:
    made: list[Echo] = []
    before = sockets()
    tls, refused = noted(max_handshakes=2)
    listener = await listen("tls://127.0.0.1:0", Echo, tls=tls)
    here = [await raw(listener, data) for data in (b"", HALF_HELLO, half_done(), HALF_HELLO)]
    for _ in range(steps):
        await asyncio.sleep(0)
    listener.close()
    await listener.wait_closed()
    for sock in here:
        await rest(sock)
    await turn_until(lambda: sockets() == before)
    assert made == []
    assert refused == [], "they did nothing wrong"


@pytest.mark.asyncio
async def test_a_factory_that_raises_costs_one_connection() -> None:
    told: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    faults = [LookupError("no protocol today")]

    def make() -> Echo:
        if faults:
            raise faults.pop()
        return Echo()

    listener = await listen("tls://127.0.0.1:0", make, tls=certs.server_tls())
    _, client = await dial(listener.targets[0], Client, timeout=5, tls=certs.client_tls())
    await client.lost
    assert await echoes(listener)
    assert [type(error) for error in told] == [LookupError]
    listener.close()


@pytest.mark.asyncio
async def test_a_peer_that_never_answers_the_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """F28: a raw peer that does the handshake, and then nothing."""
    monkeypatch.setattr("fastrpc.transport.threshold.SHUTDOWN_TIMEOUT", 0.1)
    made: list[Echo] = []

    def make() -> Echo:
        made.append(Echo())
        return made[-1]

    listener = await listen("tls://127.0.0.1:0", make, tls=certs.server_tls())
    place = parse_target(listener.targets[0])

    def shake_hands() -> tuple[socket.socket, object]:
        sock = socket.create_connection((place.host, place.port))
        context = certs.client_tls().context(0)
        incoming, out = ssl.MemoryBIO(), ssl.MemoryBIO()
        end = context.wrap_bio(incoming, out, server_hostname="localhost")
        while True:
            try:
                end.do_handshake()
                sock.sendall(out.read())
                return sock, end
            except ssl.SSLWantReadError:
                sock.sendall(out.read())
                incoming.write(sock.recv(65536))

    sock, _ = await asyncio.to_thread(shake_hands)
    await turn_until(lambda: made)
    made[0].transport.close()
    await turn_until(lambda: made[0].is_lost)
    sock.close()
    listener.close()


def test_the_limit_for_an_end_is_that_of_the_paper() -> None:
    from fastrpc.transport.tls import SHUTDOWN_TIMEOUT

    assert SHUTDOWN_TIMEOUT == 5.0
