"""Every pipe of the house passes the checks that are made for users, too."""

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fastrpc.testing import TRANSPORT_CHECKS, check_transport
from fastrpc.transport import ClientTls, Listener, ServerTls, dial, listen
from tests.transport import certs
from tests.transport.middle import Front, proxying


@pytest.fixture(params=["tcp4", "tcp6", "unix", "abstract", "mem"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "tcp4": "tcp://127.0.0.1:0",
        "tcp6": "tcp://[::1]:0",
        "unix": f"unix://{tmp_path}/socket",
        "abstract": f"unix://@fastrpc-{tmp_path.name}-{id(tmp_path)}",
        "mem": "mem://conformance",
    }[request.param]


@pytest.mark.asyncio
@pytest.mark.parametrize("check", TRANSPORT_CHECKS)
async def test_transport_conforms(target: str, check: str) -> None:
    await check_transport(target, only=check)


def tls_of(newest: ssl.TLSVersion) -> tuple[ServerTls, ClientTls]:
    """Return both sides of TLS, with certificates on both."""
    client = certs.client_tls(cert=certs.client_cert())
    client.context(0.0).maximum_version = newest
    return certs.server_tls(ca=certs.ca()), client


@pytest.mark.asyncio
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("check", TRANSPORT_CHECKS)
async def test_tls_conforms(newest: ssl.TLSVersion, check: str) -> None:
    server, client = tls_of(newest)
    await check_transport(
        "tls://127.0.0.1:0",
        only=check,
        dial=partial(dial, tls=client),
        listen=partial(listen, tls=server),
    )


async def listen_behind_http(
    target: str, make: Callable[[], Any], tls: ServerTls | None = None
) -> Listener:
    return await listen(target, lambda: Front(make), tls=tls)


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("check", TRANSPORT_CHECKS)
async def test_what_began_as_http_conforms(scheme: str, check: str) -> None:
    server, client = tls_of(ssl.TLSVersion.TLSv1_3) if scheme == "https" else (None, None)
    await check_transport(
        f"{scheme}://127.0.0.1:0/rpc",
        only=check,
        dial=partial(dial, tls=client),
        listen=partial(listen_behind_http, tls=server),
    )


#: A proxy copies: an end that was cut comes out of it as an end, and who is refused behind it
#: is refused by it.
THROUGH_PROXY = [name for name in TRANSPORT_CHECKS if name not in ("close", "stop_listening")]


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["tcp", "tls"])
@pytest.mark.parametrize("check", THROUGH_PROXY)
async def test_what_goes_through_a_proxy_conforms(scheme: str, check: str) -> None:
    server, client = tls_of(ssl.TLSVersion.TLSv1_3) if scheme == "tls" else (None, None)
    async with proxying() as proxy:
        await check_transport(
            f"{scheme}://127.0.0.1:0",
            only=check,
            dial=partial(dial, tls=client, proxy=proxy),
            listen=partial(listen, tls=server),
        )
