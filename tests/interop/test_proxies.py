"""Our clients through real forward proxies, a real TLS program at our port, and haproxy between.

The same ways through scripted proxies are in tests/transport/test_tunnel.py.
"""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastrpc
from fastrpc.errors import ProxyError
from fastrpc.transport import TlsOptions
from fastrpc.wire import MAGIC
from tests.client.served import serving
from tests.interop.foreign import free_port, need, running
from tests.transport import certs

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def tinyproxy(folder: Path, *more: str) -> Iterator[str]:
    """Give what comes behind http:// in its URL."""
    port = free_port()
    lines = [f"Port {port}", "Listen 127.0.0.1", "Timeout 60", "LogLevel Error", *more]
    (folder / "tinyproxy.conf").write_text("\n".join(lines) + "\n")
    with running(["tinyproxy", "-d", "-c", str(folder / "tinyproxy.conf")], ready=port):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def squid(folder: Path) -> Iterator[str]:
    port = free_port()
    folder.chmod(0o777)  # started by root, it becomes somebody else
    (folder / "squid.conf").write_text(
        f"http_port 127.0.0.1:{port}\nacl CONNECT method CONNECT\nhttp_access allow CONNECT\n"
        "http_access deny all\naccess_log none\ncache_log /dev/null\npid_filename none\n"
        "cache_mem 1 MB\nshutdown_lifetime 0 seconds\npinger_enable off\nnetdb_filename none\n"
        f"coredump_dir {folder}\nvisible_hostname test\nmax_filedescriptors 1024\n"
    )
    args = ["squid", "-N", "-f", str(folder / "squid.conf")]
    with running(args, ready=port, cwd=folder):
        yield f"127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def served(scheme: str) -> AsyncIterator[tuple[str, TlsOptions | None]]:
    """Give a server's target, and what a client needs for it."""
    tls = TlsOptions(cert=certs.server_cert()) if scheme == "tls" else None
    async with serving(f"{scheme}://127.0.0.1:0", tls=tls) as (server, _):
        yield server.targets[0], certs.client_options() if tls else None


async def works(target: str, tls: TlsOptions | None, **options: Any) -> None:
    """Call by both clients, and carry a large body both ways."""
    data = bytes(range(256)) * 4000
    async with fastrpc.connect(target, tls=tls, timeout=20.0, **options) as client:
        assert await client.call("Work.add", 1, 2) == 3
        assert await client.call("Work.echo", data) == data

    def block() -> None:
        with fastrpc.connect_sync(target, tls=tls, timeout=20.0, **options) as client:
            assert client.call("Work.add", 1, 2) == 3
            assert client.call("Work.echo", data) == data

    await asyncio.to_thread(block)


@pytest.fixture(scope="module", params=["tinyproxy", "squid"])
def proxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp(request.param)
    with (tinyproxy if request.param == "tinyproxy" else squid)(folder) as place:
        yield f"http://{place}"


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["tcp", "tls"])
async def test_calls_through_a_forward_proxy(proxy: str, scheme: str) -> None:
    async with served(scheme) as (target, tls):
        await works(target, tls, proxy=proxy)


@pytest.mark.asyncio
async def test_what_a_forward_proxy_can_not_reach(proxy: str) -> None:
    target = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(ProxyError, match=r"refuses the tunnel \(50[0-4]") as failed:
        async with fastrpc.connect(target, proxy=proxy, connect_timeout=20.0):
            pass
    assert failed.value.http_status >= 500


@pytest.mark.asyncio
async def test_a_proxy_that_wants_to_know_who_we_are(tmp_path: Path) -> None:
    with tinyproxy(tmp_path, "BasicAuth alice hunter2") as place:
        async with served("tls") as (target, tls):
            await works(target, tls, proxy=f"http://alice:hunter2@{place}")
            for url, words in (
                (f"http://{place}", "wants a user and a password"),
                (f"http://alice:wrong@{place}", "refuses the tunnel|does not accept the user"),
            ):
                with pytest.raises(ProxyError, match=words) as failed:
                    async with fastrpc.connect(target, tls=tls, proxy=url):
                        pass
                assert failed.value.http_status in (401, 407)
                assert "wrong" not in str(failed.value)


@pytest.mark.asyncio
async def test_a_proxy_that_allows_only_some_ports(tmp_path: Path) -> None:
    with tinyproxy(tmp_path, "ConnectPort 443") as place:
        async with served("tcp") as (target, _):
            with pytest.raises(ProxyError, match=r"refuses the tunnel \(403") as failed:
                async with fastrpc.connect(target, proxy=f"http://{place}"):
                    pass
            assert failed.value.http_status == 403


@pytest.mark.asyncio
async def test_tls_passes_through_haproxy_untouched(tmp_path: Path) -> None:
    """Also the client's certificate: nobody in between ends the encryption."""
    tls = TlsOptions(cert=certs.server_cert(), ca=certs.ca())
    async with serving("tls://127.0.0.1:0", tls=tls) as (server, _):
        port = free_port()
        (tmp_path / "haproxy.cfg").write_text(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
            f"frontend f\n bind 127.0.0.1:{port}\n default_backend b\n"
            f"backend b\n server s {server.targets[0].partition('//')[2]}\n"
        )
        with running(["haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")], ready=port):
            own = certs.client_options(cert=certs.client_cert())
            await works(f"tls://127.0.0.1:{port}", own)


# A TLS program that is not Python's


def s_client(target: str, *more: str, said: bytes = b"") -> tuple[str, str]:
    """Run openssl against *target*; return what it printed."""
    done = subprocess.run(
        [need("openssl"), "s_client", "-connect", target.partition("//")[2],
         "-CAfile", certs.ca(), "-verify_return_error", "-verify_hostname", "localhost",
         "-ign_eof" if said else "-no_ign_eof", *more],
        input=said, capture_output=True, timeout=20, check=False,
    )  # fmt: skip
    return done.stdout.decode("latin-1"), done.stderr.decode("latin-1")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["-alpn", "fastrpc/1"], "ALPN protocol: fastrpc/1"),
        (["-alpn", "h2,http/1.1"], "ALPN protocol: http/1.1"),
        (["-alpn", "h2"], "No ALPN negotiated"),
        (["-tls1_2"], "New, TLSv1.2, Cipher is"),
        (["-tls1_3"], "New, TLSv1.3, Cipher is"),
        (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], "alert protocol version"),
    ],
)
async def test_openssl_agrees(more: list[str], words: str) -> None:
    async with served("tls") as (target, _):
        out, err = await asyncio.to_thread(s_client, target, *more)
        assert words in out + err, out + err


@pytest.mark.asyncio
async def test_openssl_gets_no_new_handshake_inside_the_old() -> None:
    """Renegotiation of TLS 1.2: `R` asks for it."""
    async with served("tls") as (target, _):
        _, err = await asyncio.to_thread(s_client, target, "-tls1_2", "-no_ign_eof", said=b"R\n")
        assert "no renegotiation" in err


@pytest.mark.asyncio
async def test_openssl_with_a_client_certificate_and_without() -> None:
    tls = TlsOptions(cert=certs.server_cert(), ca=certs.ca())
    async with serving("tls://127.0.0.1:0", tls=tls) as (server, _):
        target = server.targets[0]
        own = ["-cert", certs.client_cert(), "-key", certs.client_cert()]
        magic = MAGIC.to_bytes(2, "big")
        nonsense = magic + b"\xff" * 30
        out, err = await asyncio.to_thread(s_client, target, *own, said=nonsense)
        assert magic.decode("latin-1") in out, "let in, and told in our protocol that it is wrong"
        out, err = await asyncio.to_thread(s_client, target, said=nonsense)
        assert "alert certificate required" in err
        other = certs.issue("eve.test", by="theirs")
        out, err = await asyncio.to_thread(
            s_client, target, "-cert", other, "-key", other, said=nonsense
        )
        assert "alert unknown ca" in err


# Fronts that end HTTP: `Upgrade: fastrpc` goes through them


@contextlib.contextmanager
def haproxy_front(folder: Path, place: str) -> Iterator[str]:
    port = free_port()
    pem = certs.server_cert()
    (folder / "front.cfg").write_text(
        "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
        f" timeout tunnel 60s\nfrontend f\n bind 127.0.0.1:{port} ssl crt {pem}\n"
        f" default_backend b\nbackend b\n server s {place}\n"
    )
    with running(["haproxy", "-db", "-f", str(folder / "front.cfg")], ready=port):
        yield f"https://localhost:{port}"


@contextlib.contextmanager
def nginx_front(folder: Path, place: str) -> Iterator[str]:
    port = free_port()
    folder.chmod(0o777)
    (folder / "nginx.conf").write_text(
        f"daemon off;\npid {folder}/pid;\nerror_log stderr error;\nevents {{}}\nhttp {{\n"
        f"access_log off;\nclient_body_temp_path {folder}/b;\nproxy_temp_path {folder}/p;\n"
        f"fastcgi_temp_path {folder}/f;\nuwsgi_temp_path {folder}/u;\nscgi_temp_path {folder}/s;\n"
        f"server {{\nlisten 127.0.0.1:{port};\nlocation / {{\nproxy_pass http://{place};\n"
        "proxy_http_version 1.1;\nproxy_set_header Upgrade $http_upgrade;\n"
        'proxy_set_header Connection "upgrade";\n}\n}\n}\n'
    )
    args = ["nginx", "-e", "stderr", "-c", str(folder / "nginx.conf")]
    with running(args, ready=port):
        yield f"http://localhost:{port}/rpc"


@pytest.mark.asyncio
@pytest.mark.parametrize("front", [haproxy_front, nginx_front])
async def test_frames_go_through_an_http_front(front: Any, tmp_path: Path) -> None:
    async with serving("http://127.0.0.1:0") as (server, _):
        with front(tmp_path, server.targets[0].partition("//")[2]) as target:
            tls = certs.client_options() if target.startswith("https") else None
            await works(target, tls)
