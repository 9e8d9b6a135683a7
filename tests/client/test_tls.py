"""Check whole clients over TLS and through proxies: calls, identities, certificates that change."""

import asyncio
import copy
import os
import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import fastrpc
from fastrpc.client.options import read_options
from fastrpc.errors import ProxyError
from fastrpc.transport import TlsOptions, dial
from tests.client.served import Background, Work, serving, sockets, turn_until, until
from tests.transport import certs
from tests.transport.ends import Client as Bytes
from tests.transport.middle import proxying
from tests.transport.test_tunnel import says, stub

TLS = "tls://127.0.0.1:0"


def server_options(**options: Any) -> TlsOptions:
    return TlsOptions(**{"cert": certs.server_cert(), **options})


class Guarded(Work):
    """Tells who called."""

    def who(self, peer: fastrpc.Peer = fastrpc.GIVEN) -> str:
        return peer.identity.common_name if peer.identity is not None else "nobody"


@pytest.mark.asyncio
async def test_calls_streams_and_large_bodies_over_tls() -> None:
    async with serving(TLS, tls=server_options()) as (server, _):
        async with fastrpc.connect(server.targets[0], tls=certs.client_options()) as client:
            assert await client.call("Work.add", 1, 2) == 3
            assert await client.call("Work.size", b"x" * 3_000_000) == 3_000_000
            assert len(await client.call("Work.blob", 3_000_000)) == 3_000_000
            assert await client.ping() < 5.0


@pytest.mark.asyncio
@pytest.mark.parametrize("cert", ["bob", ""])
async def test_a_handler_knows_who_calls(cert: str) -> None:
    tls = server_options(ca=certs.ca(), client_cert="optional")
    own = certs.client_options(cert=certs.client_cert() if cert else None)
    async with serving(TLS, work=Guarded(), tls=tls) as (server, _):
        async with fastrpc.connect(server.targets[0], tls=own) as client:
            assert await client.call("Guarded.who") == (cert or "nobody")
            (peer,) = server.peers
            assert peer.identity is peer.identity, "read once"


@pytest.mark.asyncio
async def test_over_plain_tcp_nobody_has_an_identity() -> None:
    async with serving(work=Guarded()) as (server, _):
        async with fastrpc.connect(server.targets[0]) as client:
            assert await client.call("Guarded.who") == "nobody"


@pytest.mark.asyncio
async def test_an_interceptor_lets_in_whom_it_knows() -> None:
    seen: list[Any] = []

    def only_bob(handler: fastrpc.Handler) -> fastrpc.Handler:
        def guarded(call: fastrpc.Call) -> Awaitable[fastrpc.Reply]:
            identity = call.peer.identity if call.peer is not None else None
            seen.append(identity)
            if identity is None or "bob.test" not in identity.dns_names:
                raise fastrpc.PermissionDenied("only bob may")
            return handler(call)

        return guarded

    tls = server_options(ca=certs.ca())
    eve = certs.issue("eve.test", common_name="bob")
    async with serving(TLS, tls=tls, interceptors=[only_bob]) as (server, _):
        for cert, is_let_in in ((certs.client_cert(), True), (eve, False)):
            own = certs.client_options(cert=cert)
            async with fastrpc.connect(server.targets[0], tls=own) as client:
                if is_let_in:
                    assert await client.call("Work.add", 1, 2) == 3
                else:
                    with pytest.raises(fastrpc.PermissionDenied):
                        await client.call("Work.add", 1, 2)
    assert [each.dns_names for each in seen if each] == [("bob.test",), ("eve.test",)]


@pytest.mark.asyncio
async def test_a_server_that_demands_a_certificate_says_so() -> None:
    async with serving(TLS, tls=server_options(ca=certs.ca())) as (server, _):
        for options in (certs.client_options(), None):
            with pytest.raises(fastrpc.ConnectFailed) as failed:
                async with fastrpc.connect(server.targets[0], tls=options):
                    pass
            words = "demands a client certificate" if options else "peer is not accepted"
            assert words in str(failed.value)


@pytest.mark.asyncio
async def test_asked_for_encryption_a_tcp_target_is_encrypted() -> None:
    async with serving("tcp://127.0.0.1:0", tls=server_options(), plain="allow") as (server, _):
        target = server.targets[0]
        assert target.startswith("tcp://")
        async with fastrpc.connect(target) as plain:
            async with fastrpc.connect(target, tls=certs.client_options()) as encrypted:
                assert await plain.call("Work.add", 1, 2) == 3
                assert await encrypted.call("Work.add", 1, 2) == 3
                ends = [each.info("ssl_object") for each in server._hall.sessions]
                assert sorted(end is not None for end in ends) == [False, True]


@pytest.mark.asyncio
async def test_a_client_that_leaves_while_a_handler_runs(caplog: pytest.LogCaptureFixture) -> None:
    """There is no half of TLS: who has ended gets no answers, and no loop complains."""
    async with serving(TLS, tls=server_options()) as (server, work):
        client = fastrpc.connect(server.targets[0], tls=certs.client_options())
        await client.call("Work.add", 1)
        call = asyncio.ensure_future(client.call("Work.wait", "x"))
        await turn_until(lambda: work.runs == ["x"])
        await client.aclose()
        await asyncio.wait([call])
        await turn_until(lambda: work.ended == ["x cancelled"])
        await turn_until(lambda: not server.peers)
    assert "eof_received" not in caplog.text


@pytest.mark.parametrize("connect", [fastrpc.connect, fastrpc.connect_sync])
@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("tls://a:1", {"tls": 3}, "tls must be TlsOptions, got int"),
        ("tls://a:1", {"tls": TlsOptions(ca="/nowhere")}, "ca /nowhere"),
        ("tls://a:1", {"tls": TlsOptions(cert="/nowhere")}, "cert /nowhere"),
        ("unix:///s", {"tls": TlsOptions()}, "nothing is encrypted at 'unix:///s'"),
        ("tcp://a:1", {"proxy": "socks5://u:hunter2@p:1"}, "proxy: only http:// proxies"),
        ("tcp://a:1", {"proxy": ""}, "proxy must be"),
        ("unix:///s", {"proxy": "http://p:1"}, "is on this machine"),
    ],
)
def test_options_are_checked_when_the_client_is_made(
    connect: Callable[..., Any], target: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(fastrpc.ConfigError, match=words) as raised:
        connect(target, **options)
    assert "hunter2" not in str(raised.value)


def test_no_text_of_the_options_has_a_password() -> None:
    options = read_options({"proxy": "http://u:hunter2@p:1"})
    assert "hunter2" not in repr(options)


@pytest.mark.parametrize("target", ["ws://127.0.0.1:1", "wss://127.0.0.1:1/x"])
def test_a_blocking_client_speaks_no_websocket(target: str) -> None:
    with pytest.raises(fastrpc.ConfigError, match="needs an event loop"):
        fastrpc.connect_sync(target)


# Certificates that change


@pytest.mark.asyncio
async def test_certificates_change_under_load_and_no_call_fails(tmp_path: Path) -> None:
    path = tmp_path / "cert.pem"

    def put(source: str, moment: int) -> None:
        fresh = tmp_path / "fresh"
        shutil.copy(source, fresh)
        os.utime(fresh, (moment, moment))
        fresh.rename(path)

    put(certs.issue("127.0.0.1"), 1)
    failed: list[Exception] = []
    done = 0
    is_over = False

    async def steady(client: fastrpc.Client) -> None:
        nonlocal done
        while not is_over:
            await client.call("Work.add", 1, 2)
            done += 1

    async def newcomers(target: str) -> None:
        while not is_over:
            async with fastrpc.connect(target, tls=certs.client_options()) as client:
                await client.call("Work.size", b"x" * 100_000)

    async def guarded(work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:
            failed.append(error)

    async def shown(target: str) -> bytes:
        transport, client = await dial(target, Bytes, timeout=5, tls=certs.client_options())
        found: bytes = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        transport.abort()
        await client.lost
        return found

    async with serving(TLS, tls=TlsOptions(cert=path)) as (server, _):
        target = server.targets[0]
        async with fastrpc.connect(target, tls=certs.client_options()) as client:
            works = [steady(client) for _ in range(8)] + [newcomers(target) for _ in range(4)]
            tasks = [asyncio.create_task(guarded(work)) for work in works]
            seen = []
            for moment in range(2, 6):
                goal = done + 100
                await turn_until(lambda goal=goal: done >= goal or failed)
                put(certs.issue("127.0.0.1", common_name=str(moment)), moment)
                server.reload_certificates()
                seen.append(await shown(target))
            is_over = True
            await asyncio.wait(tasks)
    assert failed == []
    assert len(set(seen)) == 4, "each change was seen by the next connection"


@pytest.mark.asyncio
async def test_a_broken_certificate_is_logged_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cert.pem"
    shutil.copy(certs.server_cert(), path)
    async with serving(TLS, tls=TlsOptions(cert=path)) as (server, _):
        path.write_text("-----BEGIN nothing")
        with pytest.raises(fastrpc.ConfigError):
            server.reload_certificates()
        async with fastrpc.connect(server.targets[0], tls=certs.client_options()) as client:
            assert await client.call("Work.add", 1, 2) == 3


# Without a loop


@pytest.fixture(scope="module")
def server() -> Any:
    tls = server_options(ca=certs.ca(), client_cert="optional")
    with Background(TLS, tls=tls) as background:
        yield background


def test_blocking_calls_over_tls(server: Background) -> None:
    own = certs.client_options(cert=certs.client_cert())
    with fastrpc.connect_sync(server.target, tls=own, timeout=20.0) as client:
        assert client.call("Work.add", 1, 2) == 3
        assert client.call("Work.size", b"x" * 5_000_000) == 5_000_000
        assert len(client.call("Work.blob", 5_000_000)) == 5_000_000
        assert client.ping() < 5.0
        with pytest.raises(fastrpc.DeadlineExceeded):
            client.options(timeout=0.05).call("Work.nap", 5.0)
        assert client.call("Work.add", 1, 2) == 3, "the connection is usable after that"


def test_threads_share_a_blocking_client_over_tls(server: Background) -> None:
    before = sockets()
    wrong: list[object] = []
    with fastrpc.connect_sync(server.target, tls=certs.client_options(), timeout=20.0) as client:

        def work(number: int) -> None:
            try:
                for size in range(1, 40):
                    data = bytes([number]) * (size * size * 100)
                    if client.call("Work.echo", data) != data:
                        wrong.append((number, size))
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert wrong == []
    until(lambda: sockets() <= before)


def test_a_blocking_client_is_turned_away_with_the_same_words(server: Background) -> None:
    cases: list[tuple[TlsOptions | None, str]] = [
        (None, "certificate of the peer is not accepted"),
        (certs.client_options(server_name="x.test"), "'x.test'"),
        (
            certs.client_options(cert=certs.issue("eve.test", by="theirs")),
            "does not trust the authority of our certificate",
        ),
    ]
    for options, words in cases:
        with pytest.raises(fastrpc.ConnectFailed) as failed:
            fastrpc.connect_sync(server.target, tls=options).__enter__()
        assert words in str(failed.value)


def test_a_child_of_a_fork_makes_its_own_encrypted_connection(server: Background) -> None:
    client = fastrpc.connect_sync(server.target, tls=certs.client_options(), timeout=20.0)
    with client:
        assert client.call("Work.add", 1, 2) == 3
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if client.call("Work.add", 3, 4) == 7 else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.call("Work.add", 1, 2) == 3, "the parent's is as it was"


# Through proxies


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["tcp", "tls"])
async def test_both_clients_through_a_proxy(scheme: str) -> None:
    options = server_options() if scheme == "tls" else None
    asked: list[bytes] = []
    async with (
        proxying(asked) as proxy,
        serving(f"{scheme}://127.0.0.1:0", tls=options) as (
            server,
            _,
        ),
    ):
        target = server.targets[0]
        own = certs.client_options() if scheme == "tls" else None
        async with fastrpc.connect(target, tls=own, proxy=proxy) as client:
            assert await client.call("Work.add", 1, 2) == 3

        def block() -> int:
            with fastrpc.connect_sync(target, tls=own, proxy=proxy, timeout=5) as client:
                return client.call("Work.size", b"x" * 1_000_000)  # type: ignore[no-any-return]

        assert await asyncio.to_thread(block) == 1_000_000
    assert len(asked) == 2


@pytest.mark.asyncio
async def test_what_a_proxy_refuses_is_told_to_who_calls() -> None:
    with stub(says(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")) as proxy:
        url = proxy.url.replace("http://", "http://alice:hunter2@")
        client = fastrpc.connect("tcp://far.test:1", proxy=url, connect_timeout=5)
        with pytest.raises(ProxyError) as failed:
            await client.call("x")
        await client.aclose()
        with pytest.raises(ProxyError) as blocked:
            await asyncio.to_thread(fastrpc.connect_sync("tcp://far.test:1", proxy=url).call, "x")
    for error in (failed.value, blocked.value, copy.copy(failed.value)):
        assert error.http_status == 407
        assert error.ran == "no"
        assert "hunter2" not in f"{error!r}"
