"""Floods of what is cheap to send: others have their turn, and what achieves nothing has an end."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import pytest

from fastrpc.gateway.http import BLANK_MAX
from fastrpc.gateway.lines import JsonLines
from fastrpc.gateway.wired import WiredVisitor
from fastrpc.protocol.guard import UNKNOWN_BURST
from fastrpc.transport.turns import BYTES_MAX
from tests.gateway.asking import asked, get
from tests.gateway.party import LineParty, PackParty, request
from tests.gateway.test_wired import serving

pytestmark = pytest.mark.asyncio

#: Largest read of both loops.
READ_MAX = 256 * 2**10


@contextlib.asynccontextmanager
async def filled(server: Any, first: bytes, flood: bytes) -> AsyncIterator[WiredVisitor]:
    """Give a visitor that has as much of *flood* before it as the kernel takes."""
    port = int(server.targets[0].rpartition(":")[2])
    before = list(server._hall.admission.visitors)
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(first)
        sock.setblocking(False)
        while True:
            found = [each for each in server._hall.admission.visitors if each not in before]
            if found and isinstance(found[0], WiredVisitor) and found[0]._bytes_in:
                break
            await asyncio.sleep(0)
        visitor = found[0]
        visitor.transport.pause_reading()
        data = flood * (2**16 // len(flood))
        with contextlib.suppress(BlockingIOError):
            while True:
                sent = sock.send(data)
                data = data[sent:] + data[:sent]
        visitor.transport.resume_reading()
        yield visitor


@pytest.mark.parametrize("flood", [b"\n", json.dumps(request("no", [], None)).encode() + b"\n"])
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_beside_a_flood_a_call_is_answered_within_some_turns(flood: bytes) -> None:
    async with serving() as (server, _, come):
        good = await come()
        await good.ask(request("Arith.add", [1, 2]))
        async with filled(server, json.dumps(request("Arith.add", [1, 2])).encode(), flood) as bad:
            answer = asyncio.ensure_future(good.ask(request("Arith.add", [1, 2])))
            turns, most, before = 0, 0, bad._bytes_in
            while not answer.done():
                await asyncio.sleep(0)
                turns += 1
                most = max(most, bad._bytes_in - before)
                before = bad._bytes_in
            assert (await answer)["result"] == 3
            while turns < 50 and not most:
                await asyncio.sleep(0)
                turns += 1
                most = max(most, bad._bytes_in - before)
            assert 0 < most <= BYTES_MAX + READ_MAX
            assert turns < 50


async def test_a_run_of_blank_lines_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[bytes] = []
    take = JsonLines._line

    def count(self: JsonLines, part: bytes, *, is_whole: bool) -> None:
        lines.append(part)
        take(self, part, is_whole=is_whole)

    monkeypatch.setattr(JsonLines, "_line", count)
    party = LineParty()
    asked = json.dumps(request("Arith.add", [1, 2])).encode()
    party.hear(b"\n" * 10_000 + b" \r\n\t\n" * 1000 + b"  " + asked + b"\n" * 1000)
    assert [json.loads(text)["result"] for text in party.said] == [3]
    assert len(lines) == 3


async def test_notifications_and_answers_that_achieve_nothing_are_counted() -> None:
    party = PackParty()
    party.hear(msgpack.packb([2, "", []]) * 5)
    assert party.tongue.vain == 5
    party.hear(b"\x94\x01\x00\xc0\xc0")
    assert party.tongue.vain == 6
    lines = LineParty()
    lines.hear(json.dumps(request("", [], None)).encode() + b"\n")
    lines.hear(json.dumps(request("Arith.count", [1], None)).encode() + b"\n")
    assert lines.tongue.vain == 2
    lines.hear(json.dumps(request("Arith.note", [1], None)).encode() + b"\n")
    assert lines.tongue.vain == 2


async def test_a_late_answer_is_forgiven_once_for_each_call_that_was_given_up() -> None:
    for party, late in (
        (PackParty(), b"\x94\x01\x01\xc0\xc0"),
        (LineParty(), b'{"jsonrpc":"2.0","id":1,"result":1}\n'),
    ):
        tongue: Any = party.tongue
        tongue._last_asked = 1
        tongue._asked[1] = (1, 1)
        if isinstance(party, PackParty):
            tongue._numbers[1] = 1
        tongue._forget(1)
        party.hear(late)
        assert tongue.vain == 0
        party.hear(late)
        assert tongue.vain == 1


@pytest.mark.parametrize(
    "vain", [b'{"jsonrpc":"2.0","method":""}\n', b"\x93\x02\xa0\x90", b"\x94\x01\x00\xc0\xc0"]
)
async def test_too_much_that_achieves_nothing_ends_the_connection(
    vain: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as (_, _, come):
        peer = await come()
        with contextlib.suppress(ConnectionError):
            peer.writer.write(vain * int(UNKNOWN_BURST + 50))
            await peer.reader.read()
    assert "achieve nothing" in caplog.text


async def test_empty_lines_before_a_request_have_an_end() -> None:
    async with asked() as (_, _, asker):
        assert (await asker.ask(get("/healthz"))).status == 200
        for _ in range(2):
            asked_so = b"\r\n" * (BLANK_MAX // 2) + get("/healthz")
            assert (await asker.ask(asked_so)).status == 200
        refused = await asker.ask(b"\r\n" * (BLANK_MAX // 2 + 1) + get("/healthz"))
        assert refused.status == 400
        assert b"empty lines" in refused.body
