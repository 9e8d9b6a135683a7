"""What a server logs about its handlers: each kind of mistake, and none of them without end."""

import asyncio
import logging

import pytest

import fastrpc
from tests.server.serving import serving

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("both_twins")]
LOG = logging.getLogger("tests.complaints")


class Wrong:
    """Mistakes of several kinds."""

    def divide(self, by: int) -> float:
        return 1 / by

    def look_up(self, key: str) -> str:
        return {"a": "b"}[key]

    async def look_up_later(self, key: str) -> str:
        await asyncio.sleep(0)
        return {"a": "b"}[key]

    def give(self) -> object:
        return object()


CALLS = [
    ("Wrong.divide", 0, "divide raised ZeroDivisionError"),
    ("Wrong.look_up", "x", "look_up raised KeyError"),
    ("Wrong.look_up_later", "x", "look_up_later raised KeyError"),
    ("Wrong.give", None, "give: the result can't be encoded"),
]


async def test_no_mistake_hides_another(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(Wrong(), log=LOG) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            for _ in range(20):
                for method, argument, _said in CALLS:
                    with pytest.raises(fastrpc.CallError):
                        await client.call(method, *([] if argument is None else [argument]))
    lines = [record.getMessage() for record in caplog.records]
    for _, _, said in CALLS:
        # One line a second, and this takes less than a few.
        assert 1 <= sum(said in line for line in lines) <= 10, lines
    assert any("ZeroDivisionError: division by zero" in (r.exc_text or "") for r in caplog.records)


class Relay:
    """Lets the error of a call back through."""

    async def go(self, peer: fastrpc.Peer = fastrpc.GIVEN) -> None:
        await peer.call("Back.fail")


class Back:
    def __init__(self, text: str) -> None:
        self.text = text

    def fail(self) -> None:
        raise ValueError(self.text)


@pytest.mark.parametrize("text", ["a\nERROR root forged\x1b[2J", "x" * 20_000])
async def test_the_words_of_a_peer_make_no_lines_of_their_own(
    caplog: pytest.LogCaptureFixture, text: str
) -> None:
    async with serving(Relay()) as server:
        client = fastrpc.connect(server.targets[0])
        client.register(Back(text))
        async with client:
            with pytest.raises(fastrpc.RemoteError):
                await client.call("Relay.go")
    logged = "\n".join(
        logging.Formatter().format(record)
        for record in caplog.records
        if record.name == "fastrpc.server"
    )
    assert "Relay.go raised RemoteError" in logged
    assert not [line for line in logged.splitlines() if line.startswith("ERROR root")]
    assert "\x1b" not in logged
    assert len(logged) < 8000
