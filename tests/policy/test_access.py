import asyncio
import contextlib
import json
import logging
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

import fastrpc
from fastrpc import policy
from fastrpc.policy.access import line_of
from tests.policy.served import RESULTS, WAYS, Clock, connected, wrapping
from tests.server.serving import until

pytestmark = pytest.mark.asyncio


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def fields(self) -> list[dict[str, Any]]:
        return [record.__dict__["rpc"] for record in self.records]

    @property
    def lines(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@contextlib.contextmanager
def keeping(name: str = "tests.access") -> Iterator[tuple[logging.Logger, Kept]]:
    log, kept = logging.getLogger(name), Kept()
    log.addHandler(kept)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield log, kept
    finally:
        log.removeHandler(kept)
        log.setLevel(logging.NOTSET)
        log.propagate = True


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scheme", ["mem", "tcp"])
async def test_one_line_per_call_when_it_has_ended(scheme: str, way: str) -> None:
    with keeping() as (log, kept):
        async with connected(scheme=scheme, server=[policy.access_log(log)]) as (client, _, server):
            assert await WAYS[way](client) == RESULTS[way]
            await until(lambda: kept.records)
            (fields,) = kept.fields
            assert fields["method"] == f"Work.{way}"
            assert fields["peer"] == server.peers[0].address
            assert fields["call"].endswith("-1")
            assert (fields["outcome"], fields["status"]) == ("ok", 0)
            assert ("sent" in fields) == (way in ("steps", "gives", "both"))
            assert ("received" in fields) == (way in ("takes", "both"))
            assert kept.records[0].levelno == logging.INFO
            assert kept.lines[0].startswith(f"method=Work.{way} peer=")


async def test_a_line_of_a_stream_comes_when_its_items_have_ended() -> None:
    with keeping() as (log, kept):
        async with connected(server=[policy.access_log(log)]) as (client, work, _):
            stream = aiter(client.stream("Work.stuck_stream"))
            assert await anext(stream) == 1
            await work.entered.wait()
            assert not kept.records
            del stream
            await until(lambda: kept.records)
            assert kept.fields[0]["outcome"] == "cancelled"
            assert kept.fields[0]["sent"] == 1
            assert kept.records[0].levelno == logging.INFO


async def test_nothing_that_may_be_secret_is_in_a_line() -> None:
    async def refuse(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        raise fastrpc.PermissionDenied("s3cret")

    for inner in ([], [wrapping(refuse)]):
        with keeping() as (log, kept):
            access = policy.access_log(log)
            async with connected(server=[access, *inner], client=[access]) as (client, _, _server):
                calls = client.options(metadata={"key": "s3cret"})
                for arguments in ((3,), ("s3cret",)):
                    with contextlib.suppress(fastrpc.CallError):
                        await calls.call("Work.sync", *arguments)
                with contextlib.suppress(fastrpc.CallError):
                    await calls.call("Work.missing", "s3cret")
        assert len(kept.records) >= 4
        assert "s3cret" not in "".join(map(str, [kept.lines, kept.fields]))
        assert all(not record.exc_info for record in kept.records)


class Ends:
    def fault(self) -> None:
        raise LookupError("x")

    def no(self) -> None:
        raise fastrpc.PermissionDenied("x")

    async def wait(self) -> None:
        await asyncio.Event().wait()


async def hurry(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
    """Shorten the deadline of who asks for it: the client would give up as well, and maybe first."""
    if "hurry" in call.metadata:
        call.deadline = time.monotonic() + 0.01
    return await handler(call)


async def test_levels_by_outcome() -> None:
    levels = {policy.Outcome.REFUSED: logging.CRITICAL}
    with keeping() as (log, kept):
        access = policy.access_log(log, levels=levels)
        async with connected(server=[access, wrapping(hurry)]) as (client, _, server):
            server.register(Ends())
            for method in ("fault", "no", "wait"):
                calls = client.options(metadata={"hurry": "yes"} if method == "wait" else None)
                with pytest.raises(fastrpc.CallError):
                    await calls.call(f"Ends.{method}")
            waiting = asyncio.ensure_future(client.call("Ends.wait"))
            await until(lambda: server.stats().running)
            waiting.cancel()
            await until(lambda: len(kept.records) == 4)
    told = [
        (item["outcome"], record.levelno)
        for item, record in zip(kept.fields, kept.records, strict=True)
    ]
    assert told == [
        ("failed", logging.ERROR),
        ("refused", logging.CRITICAL),
        ("late", logging.WARNING),
        ("cancelled", logging.INFO),
    ]
    assert [item.get("error") for item in kept.fields] == [
        "LookupError",
        "PermissionDenied",
        None,
        None,
    ]


async def test_the_client_names_a_call_as_the_server_does_where_it_knows() -> None:
    with keeping("tests.there") as (there, kept_there), keeping("tests.here") as (here, kept_here):
        ends = {"server": [policy.access_log(there)], "client": [policy.access_log(here)]}
        async with connected(**ends) as (client, _, server):
            server.register(Ends())
            with pytest.raises(fastrpc.PermissionDenied):
                await client.call("Ends.no")
    assert kept_here.fields[0]["call"] == kept_there.fields[0]["call"] != ""
    assert "peer" not in kept_here.fields[0]


async def test_samples_are_of_good_calls_only_and_what_is_left_out_is_counted() -> None:
    with keeping() as (log, kept):
        access = policy.access_log(log, sample=0.25, rng=random.Random(1))
        async with connected(server=[access]) as (client, _, server):
            server.register(Ends())
            for _number in range(100):
                await client.call("Work.sync", 1)
            told = len(kept.records)
            assert 10 < told < 45
            for _number in range(5):
                with pytest.raises(fastrpc.RemoteError):
                    await client.call("Ends.fault")
    assert len(kept.records) == told + 5
    left_out = sum(item.get("left_out", 0) for item in kept.fields)
    assert left_out == 105 - len(kept.records)


async def test_lines_per_second() -> None:
    clock = Clock()
    with keeping() as (log, kept):
        access = policy.access_log(log, per_second=2, clock=clock)
        async with connected(server=[access]) as (client, _, _server):
            for _number in range(10):
                await client.call("Work.sync", 1)
            assert len(kept.records) == 2
            clock.now += 0.5
            for _number in range(10):
                await client.call("Work.sync", 1)
            assert [item.get("left_out") for item in kept.fields] == [None, None, 8]


async def test_a_level_that_is_off_costs_no_line_and_a_broken_handler_no_call() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("the disk is full")

    with keeping() as (log, kept):
        log.setLevel(logging.WARNING)
        async with connected(server=[policy.access_log(log)]) as (client, _, _server):
            assert await client.call("Work.sync", 1) == 2
            assert not kept.records
            log.setLevel(logging.INFO)
            log.addHandler(broken := Broken())
            try:
                assert await client.call("Work.sync", 1) == 2
            finally:
                log.removeHandler(broken)


async def test_no_value_can_pass_for_another_line() -> None:
    line = line_of({"method": "a b\nmethod=c", "seconds": 0.25, "status": 0})
    assert line == 'method="a b\\nmethod=c" seconds=0.250000 status=0'
    assert json.loads(line.partition("=")[2].partition(" seconds")[0]) == "a b\nmethod=c"


@pytest.mark.parametrize(
    "options", [{"sample": 1.1}, {"sample": -0.1}, {"per_second": 0}, {"per_second": float("inf")}]
)
async def test_options_that_make_no_sense(options: dict[str, float]) -> None:
    with pytest.raises(fastrpc.ConfigError, match=next(iter(options))):
        policy.access_log(**options)  # type: ignore[arg-type]
