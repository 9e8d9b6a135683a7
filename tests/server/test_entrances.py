"""Listeners with their doors and certificates: what is kept of each, and what is refused."""

from typing import Any

import pytest

import fastrpc
from fastrpc.server import DOORS
from tests.transport import certs


@pytest.mark.asyncio
async def test_each_target_has_its_doors() -> None:
    async with fastrpc.Server(doors=("jsonrpc", "fastrpc")) as server:
        await server.start("tcp://127.0.0.1:0", "mem://doors-of-each")
        await server.start("tcp://127.0.0.1:0", doors=reversed(DOORS))
        first, second, third = server.targets
        assert server.doors_by_target == {
            first: ("fastrpc", "jsonrpc"),
            second: ("fastrpc", "jsonrpc"),
            third: DOORS,
        }


@pytest.mark.asyncio
async def test_options_that_are_the_same_have_one_certificate() -> None:
    cert = certs.server_cert()
    first, again = (fastrpc.TlsOptions(cert=cert) for _ in range(2))
    other = fastrpc.TlsOptions(cert=cert, max_waiting=7)
    async with fastrpc.Server(tls=first) as server:
        for tls in (None, again, other):
            await server.start("tcp://127.0.0.1:0", tls=tls)
        known = server._entrances._certificates
        assert list(known) == [first, other]
        assert server._entrances.certificates(again) is known[first]


@pytest.mark.asyncio
async def test_a_target_that_fails_leaves_none_open() -> None:
    async with fastrpc.Server() as server:
        with pytest.raises(fastrpc.ConfigError, match="certificate"):
            await server.start("mem://all-or-none", "tls://127.0.0.1:0")
        assert server.doors_by_target == {}
        await server.start("mem://all-or-none")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"plain": "allow"}, "there is no tls"),
        ({"plain": "perhaps"}, "'refuse' or 'allow', got 'perhaps'"),
        ({"tls": {"cert": "x"}}, "tls must be TlsOptions, got dict"),
        ({"doors": ["window"]}, "window"),
    ],
)
async def test_what_makes_no_sense_is_refused_everywhere(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(fastrpc.ConfigError, match=says):
        fastrpc.Server(**options)
    async with fastrpc.Server() as server:
        with pytest.raises(fastrpc.ConfigError, match=says):
            await server.start("mem://no-sense", **options)


@pytest.mark.asyncio
async def test_plain_connections_are_allowed_beside_a_certificate() -> None:
    tls = fastrpc.TlsOptions(cert=certs.server_cert())
    async with fastrpc.Server(tls=tls) as server:
        await server.start("tcp://127.0.0.1:0", plain="allow")
        async with fastrpc.connect(server.targets[0]) as client:
            await client.ping()
