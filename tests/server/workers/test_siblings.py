"""Workers ask each other; here two of them live in one process."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import fastrpc
from fastrpc.observe import workers
from fastrpc.observe.page import debug_page
from fastrpc.server.pages import PageRequest, PageResponse
from fastrpc.server.workers import siblings as siblings_module
from fastrpc.server.workers.siblings import Siblings, Silent, siblings_of
from fastrpc.server.workers.table import SeatState, WorkerTable
from tests.server.serving import serving, until

HEADERS = {"host": "localhost", "x-fastrpc-debug": "1"}


class Work:
    async def wait(self) -> None:
        await asyncio.sleep(30)

    def hello(self) -> str:
        return "hello"


@asynccontextmanager
async def two(folder: Path, **options: Any) -> AsyncIterator[list[Siblings]]:
    table = WorkerTable(3, 2, time.monotonic())
    made: list[Siblings] = []
    async with serving(Work(), **options) as first, serving(Work(), **options) as second:
        for seat, server in enumerate((first, second)):
            table.enter(seat, place=seat, number=seat + 1, restarts=0)
            table.set_pid(seat, 100 + seat)
            table.set_state(seat, SeatState.SERVING)
            made.append(Siblings(server, table, seat, seat + 1, folder, b"secret"))
            await made[seat].open()
        try:
            yield made
        finally:
            for each in made:
                await each.close()
    table.close()


def hall(one: Siblings) -> Any:
    return one._hall


async def call(one: Siblings, times: int) -> None:
    async with fastrpc.connect(hall(one).server.targets[0]) as client:
        for _ in range(times):
            await client.call("Work.hello")


async def asked(one: Siblings, path: str, body: bytes = b"", **headers: str) -> PageResponse:
    return await debug_page(
        PageRequest(
            method="POST" if body else "GET", path=path, query={}, headers=HEADERS | headers,
            body=body, peer="tcp://127.0.0.1:1", hall=hall(one), prefix="/debug/rpc",
        )
    )  # fmt: skip


@pytest.mark.asyncio
async def test_whoever_is_asked_tells_of_all(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second):
        await call(first, 3)
        await call(second, 4)
        for one in (first, second):
            facts = json.loads((await asked(one, "/facts.json")).body)
            assert facts["server"]["calls"] == 7
            assert [(m["name"], m["calls"]) for m in facts["methods"]] == [("Work.hello", 7)]
            assert [(w["worker"], w["pid"], w["calls"]) for w in facts["workers"]] == [
                (0, 100, 3),
                (1, 101, 4),
            ]
            assert [w["is_asked"] for w in facts["workers"]] == [one is first, one is second]
        assert (tmp_path / "0.sock").stat().st_mode & 0o777 == 0o600
        assert siblings_of(hall(first)) is first


@pytest.mark.asyncio
async def test_what_is_gone_still_counts_and_only_once(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second):
        await call(first, 3)
        await call(second, 4)
        await workers.look_at_all(hall(first))
        await call(second, 2)
        await second.close()  # it leaves in good order
        first.ledger.add_gone(1, 2)
        facts = await workers.look_at_all(hall(first))  # while its seat is still taken
        assert (facts.server.calls, len(facts.workers)) == (9, 1)
        first.table.set_state(1, SeatState.FREE)
        facts = await workers.look_at_all(hall(first))
        assert (facts.server.calls, len(facts.workers)) == (9, 1)
        assert facts.methods[0].calls == 9


@pytest.mark.asyncio
async def test_who_hangs_is_silent_and_what_it_had_told_still_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(siblings_module, "PATIENCE", 0.05)
    async with two(tmp_path) as (first, second):
        await call(second, 4)
        await workers.look_at_all(hall(first))
        hangs = asyncio.Event()

        left: list[None] = []

        async def never(_: object, writer: asyncio.StreamWriter) -> None:
            await hangs.wait()
            writer.close()
            await writer.wait_closed()
            left.append(None)

        second._listening.close()  # type: ignore[union-attr]
        (tmp_path / "1.sock").unlink(missing_ok=True)
        deaf = await asyncio.start_unix_server(never, tmp_path / "1.sock")
        facts = await workers.look_at_all(hall(first))
        assert [each.state for each in facts.workers] == ["serving", "silent"]
        assert facts.server.calls == 4
        with pytest.raises(Silent, match="worker 1"):
            await first.ask(1, hall(first), workers.FACTS, {})
        hangs.set()
        deaf.close()
        await until(lambda: len(left) == 2)


@pytest.mark.asyncio
async def test_a_call_of_another_worker_can_be_cancelled_here(tmp_path: Path) -> None:
    async with two(tmp_path) as (first, second):
        async with fastrpc.connect(hall(second).server.targets[0]) as client:
            waits = asyncio.ensure_future(client.call("Work.wait"))
            facts = await workers.look_at_all(hall(first))
            while not facts.calls:
                await asyncio.sleep(0.005)
                facts = await workers.look_at_all(hall(first))
            (running,) = facts.calls
            assert running.worker == 1
            assert facts.connections[0].worker == 1
            which = {"connection": running.connection, "number": running.number}
            for worker, cancelled in ((0, False), (1, True)):
                body = json.dumps({**which, "worker": worker}).encode()
                told = json.loads((await asked(first, "/cancel", body)).body)
                assert told == {"cancelled": cancelled}
            with pytest.raises(fastrpc.Cancelled):
                await waits
            body = json.dumps({**which, "worker": 7}).encode()
            assert (await asked(first, "/cancel", body)).status == 504


@pytest.mark.asyncio
async def test_who_has_shown_the_token_to_one_has_shown_it_to_all(tmp_path: Path) -> None:
    token = "correct-horse-battery"
    http = fastrpc.HttpOptions(debug_token=token)
    async with two(tmp_path, http=http) as (first, second):
        assert (await asked(first, "/facts.json")).status == 401
        entered = await asked(first, "", f"token={token}".encode())
        (cookie,) = (text for name, text in entered.headers if name == "Set-Cookie")
        shown = await asked(second, "/facts.json", cookie=cookie.partition(";")[0])
        assert (shown.status, len(json.loads(shown.body)["workers"])) == (200, 2)


@pytest.mark.asyncio
async def test_strange_questions_are_not_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with two(tmp_path) as (first, _):
        for question in (b"{}\n", b"nonsense\n", b'{"mount": "", "path": "/no", "query": {}}\n'):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "0.sock")
            writer.write(question)
            assert await reader.read() == b""
            writer.close()
        with pytest.raises(Silent):
            await first.ask(1, hall(first), "/nowhere", {})
    assert len(caplog.records) == 4
