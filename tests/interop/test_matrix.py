"""The same conversation over every transport, with every codec, on both loops."""

from collections.abc import Iterator

import pytest

import fastrpc
from tests.client.served import SCHEMES, Background, address, serving
from tests.interop.talk import CODECS, talk, talk_blocking

FIRST: dict[str, list[str]] = {}


@pytest.fixture(params=SCHEMES)
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    with address(request.param) as target:
        yield target


@pytest.mark.asyncio
@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS)
async def test_asyncio_client(target: str, codec: str) -> None:
    async with serving(target, pickle=True) as (server, _):
        pickle = codec == "pickle"
        async with fastrpc.connect(server.targets[0], codec=codec, pickle=pickle) as client:
            lines = await talk(client, codec)
    expect_the_usual(lines, codec)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["tcp", "unix"])
@pytest.mark.parametrize("codec", CODECS)
def test_blocking_client(scheme: str, codec: str) -> None:
    with address(scheme) as target, Background(target, pickle=True) as server:
        pickle = codec == "pickle"
        with fastrpc.connect_sync(server.target, codec=codec, pickle=pickle) as client:
            lines = talk_blocking(client, codec)
    expect_the_usual(lines, codec)


def expect_the_usual(lines: list[str], codec: str) -> None:
    """Every way of talking must come to the same, whichever was first."""
    assert lines == FIRST.setdefault(codec, lines)
    said = dict(line.split(": ", 1) for line in lines)
    if codec != "raw":
        assert said["both"] == "int 6"
        assert said["typed"] == "Point Point(x=4, y=5)"
        assert said["raises"].startswith("RemoteError: LookupError: for a reason | yes 50")
        assert said["was told"] == "int 4"  # with `late` and `in time`
    assert said["ping"] == "bool True"
