"""Listings and watches of etcd, against a fake that overtakes, forgets, repeats and goes silent."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from fastrpc.cluster import Gone, Instance, InstanceState, Listing, Put, parse_cluster
from fastrpc.cluster.instance import encode_instance
from fastrpc.cluster.registries import etcd_reader
from fastrpc.cluster.registries.etcd_gateway import ANSWER_MAX, Gateway
from fastrpc.cluster.registries.etcd_reader import Reader
from fastrpc.errors import RegistryLost
from tests.cluster.engines.fake_etcd import FakeEtcd, problem

ONE = Instance(id="one", addresses=("tcp://127.0.0.1:7000",))
TWO = replace(ONE, id="two")
BASE = "/fastrpc/Arith/"
CLUSTER = "7"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def key(id: str) -> str:
    return b64(f"{BASE}{id}".encode())


def entry(instance: Instance, revision: int = 1) -> dict[str, Any]:
    value = b64(encode_instance(instance))
    return {"key": key(instance.id), "value": value, "mod_revision": str(revision)}


def header(revision: int, cluster: str = CLUSTER) -> dict[str, Any]:
    return {"cluster_id": cluster, "revision": str(revision)}


def page(*entries: dict[str, Any], revision: int = 5, **more: Any) -> dict[str, Any]:
    return {"header": header(revision), "kvs": list(entries), **more}


def told(*events: dict[str, Any], revision: int = 5, **more: Any) -> dict[str, Any]:
    return {"result": {"header": header(revision), "events": list(events), **more}}


def put(instance: Instance, revision: int) -> dict[str, Any]:
    return {"kv": entry(instance, revision)}


def delete(id: str, revision: int) -> dict[str, Any]:
    return {"type": "DELETE", "kv": {"key": key(id), "mod_revision": str(revision)}}


CREATED = told(created=True)


class Story:
    """What the fake says, one listing and one watch after the other."""

    def __init__(self, fake: FakeEtcd, reader: Reader) -> None:
        self.fake = fake
        self.reader = reader
        self.lists: list[Any] = []
        self.watches: list[list[Any]] = []
        fake.answers["kv/range"] = lambda question: self._next(self.lists)
        fake.answers["watch"] = lambda question: self._next(self.watches)

    async def changes(self, count: int) -> list[Any]:
        watch = self.reader.watch("Arith")
        try:
            return [await anext(watch) for _ in range(count)]
        finally:
            await watch.aclose()

    def began(self) -> list[int]:
        """Return the revisions that watches began with."""
        questions = [question for path, question in self.fake.asked if path == "watch"]
        return [question["create_request"]["start_revision"] for question in questions]

    def _next(self, answers: list[Any]) -> Any:
        return answers.pop(0) if len(answers) > 1 else answers[0]


@asynccontextmanager
async def story(quiet: float = 10, patience: float = 5) -> AsyncIterator[Story]:
    async with FakeEtcd() as fake:
        gateway = Gateway(parse_cluster(f"etcd://{fake.place}"), patience)
        try:
            yield Story(fake, Reader(gateway, "fastrpc", quiet))
        finally:
            await gateway.aclose()


@pytest.mark.asyncio
async def test_pages_are_of_one_revision() -> None:
    async with story() as told_by:
        told_by.lists = [page(entry(ONE), more=True, count="2"), page(entry(TWO), revision=9)]
        assert await told_by.reader.list("Arith") == Listing((ONE, TWO))
        first, second = (question for _, question in told_by.fake.asked)
        assert (first["revision"], first["key"]) == (0, key(""))
        assert (second["revision"], second["key"]) == (5, key("one\0"))
        assert base64.b64decode(first["range_end"]) == b"/fastrpc/Arith0"


@pytest.mark.asyncio
async def test_listing_that_is_overtaken_begins_anew_three_times_at_most() -> None:
    overtaken = [page(entry(ONE), more=True), lambda: problem(11, "has been compacted")]
    async with story() as told_by:
        turns = iter([*overtaken, page(entry(TWO))])
        told_by.fake.answers["kv/range"] = lambda question: _made(next(turns))
        assert await told_by.reader.list("Arith") == Listing((TWO,))
        turns = iter(overtaken * 3)
        with pytest.raises(RegistryLost, match="compacted while it was listed"):
            await told_by.reader.list("Arith")


def _made(answer: Any) -> Any:
    return answer() if callable(answer) else answer


@pytest.mark.asyncio
async def test_page_over_the_limit_is_asked_for_in_smaller_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with story() as told_by:
        limits = []

        def answer(question: dict[str, Any]) -> Any:
            limits.append(question["limit"])
            if question["limit"] > 1:
                return [b" " * ANSWER_MAX, b" "]
            if question["key"] == key(""):
                if question.get("keys_only"):
                    return page({"key": key("long")}, more=True)
                return [b" " * ANSWER_MAX, b" "]
            return page(entry(ONE))

        told_by.fake.answers["kv/range"] = answer
        assert await told_by.reader.list("Arith") == Listing((ONE,), skipped=1)
        assert limits == [256, 32, 4, 1, 1, 2, 1]


@pytest.mark.asyncio
async def test_no_more_instances_are_taken_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_reader, "INSTANCES_MAX", 2)
    async with story() as told_by:
        three = replace(ONE, id="three")
        told_by.lists = [page(entry(ONE), entry(TWO), entry(three), more=True, count="100")]
        heavy = replace(ONE, weight=5)
        events = [put(three, 6), put(heavy, 7), delete("two", 8), put(three, 9)]
        told_by.watches = [[CREATED, told(*events), None]]
        assert await told_by.changes(4) == [
            Listing((ONE, TWO), skipped=98), Put(heavy), Gone("two"), Put(three),
        ]  # fmt: skip


@pytest.mark.asyncio
async def test_what_is_known_is_not_told_again_and_the_unreadable_not_at_all() -> None:
    async with story() as told_by:
        told_by.lists = [page(entry(ONE))]
        unreadable = {"kv": {"key": key("one"), "value": b64(b"{}"), "mod_revision": "8"}}
        foreign = {"kv": {**entry(TWO), "key": key("three")}}
        draining = ONE.with_state(InstanceState.DRAINING)
        events = [
            put(ONE, 6), delete("nobody", 7), unreadable, foreign, put(TWO, 9), delete("one", 10),
            put(draining, 11), delete("one", 12),
        ]  # fmt: skip
        told_by.watches = [[CREATED, told(*events), None]]
        assert await told_by.changes(5) == [
            Listing((ONE,)), Put(TWO), Gone("one"), Put(draining), Gone("one", is_explicit=True),
        ]  # fmt: skip


@pytest.mark.asyncio
async def test_watch_that_breaks_goes_on_behind_what_was_told() -> None:
    async with story() as told_by:
        told_by.lists = [page(), page(revision=30)]
        told_by.watches = [
            [CREATED, told(put(ONE, 8))],
            [CREATED, told(revision=20)],  # progress: all up to there was told
            [told(created=True, revision=20), told(put(TWO, 21), revision=21), None],
        ]
        assert await told_by.changes(3) == [Listing(()), Put(ONE), Put(TWO)]
        assert told_by.began() == [6, 9, 21]


@pytest.mark.asyncio
async def test_half_of_a_revision_is_asked_for_again() -> None:
    async with story() as told_by:
        told_by.lists = [page()]
        told_by.watches = [
            [CREATED, told(put(ONE, 8), fragment=True)],
            [CREATED, told(put(ONE, 8), fragment=True), told(put(TWO, 8)), None],
        ]
        assert await told_by.changes(3) == [Listing(()), Put(ONE), Put(TWO)]
        assert told_by.began() == [6, 6]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "gap",
    [
        [CREATED, told(canceled=True, compact_revision="4")],
        [{"result": {"header": header(9, "8"), "created": True}}],
        [CREATED, b"x" * ANSWER_MAX, b"x"],
        [told(created=True, revision=3)],  # and the listing says the same, see below
    ],
    ids=["compacted", "another cluster", "too long", "set back"],
)
async def test_where_something_may_be_missed_a_listing_comes(gap: list[Any]) -> None:
    async with story() as told_by:
        told_by.lists = [page(entry(ONE)), page(entry(TWO), revision=3)]
        told_by.watches = [gap, [told(created=True, revision=3), told(put(ONE, 4)), None]]
        assert await told_by.changes(3) == [Listing((ONE,)), Listing((TWO,)), Put(ONE)]
        assert told_by.began() == [6, 4]


@pytest.mark.asyncio
async def test_host_that_is_only_behind_is_no_gap() -> None:
    async with story() as told_by:
        told_by.lists = [page(entry(ONE))]
        told_by.watches = [[told(created=True, revision=3), told(put(TWO, 6)), None]]
        assert await told_by.changes(2) == [Listing((ONE,)), Put(TWO)]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("end", "words"),
    [
        ([CREATED, {"error": {"grpc_code": 14, "message": "etcdserver: no leader"}}], "no leader"),
        ([CREATED, told(canceled=True, cancel_reason="permission denied")], "permission denied"),
        ([CREATED, {"error": {}}], "the watch ended$"),
        ([CREATED], "the watch ended$"),
        ([b"<html>\n"], "no JSON of etcd's"),
        ([b'{"result": {"events": 5}}\n'], "no JSON of etcd's"),
    ],
)
async def test_watch_that_ends_again_and_again_is_lost(end: list[Any], words: str) -> None:
    async with story() as told_by:
        told_by.lists = [page(entry(ONE))]
        told_by.watches = [end]
        with pytest.raises(RegistryLost, match=words):
            await told_by.changes(2)
        assert told_by.began() == [6, 6, 6]


@pytest.mark.asyncio
async def test_silent_watch_asks_whether_it_would_be_told() -> None:
    async with story(quiet=0.01) as told_by:
        told_by.lists = [page(entry(ONE))]
        told_by.watches = [[CREATED, None]]
        watch = told_by.reader.watch("Arith")
        assert await anext(watch) == Listing((ONE,))
        waiting = asyncio.ensure_future(anext(watch))
        await _until(lambda: told_by.fake.count("kv/range") > 3)
        assert told_by.fake.asked[-1][1]["count_only"]
        assert not waiting.done()
        told_by.fake.answers["kv/range"] = lambda question: problem(14, "no leader", 503)
        with pytest.raises(RegistryLost, match="no leader"):
            await waiting


@pytest.mark.asyncio
@pytest.mark.parametrize("life", ["progress", "an answer in silence"])
async def test_watch_that_ends_often_and_lives_between_is_not_lost(life: str) -> None:
    async with story(quiet=10 if life == "progress" else 0.01) as told_by:

        async def answered() -> None:
            asked = told_by.fake.count("kv/range")
            await _until(lambda: told_by.fake.count("kv/range") > asked + 1)

        told_by.lists = [page(entry(ONE))]
        between = told() if life == "progress" else answered
        told_by.watches = [*[[CREATED, between] for _ in range(5)], [CREATED, told(put(TWO, 6))]]
        assert await told_by.changes(2) == [Listing((ONE,)), Put(TWO)]


@pytest.mark.asyncio
async def test_store_that_was_set_back_in_silence_is_listed_anew() -> None:
    async with story(quiet=0.01) as told_by:
        told_by.lists = [page(entry(ONE)), page(revision=5), page(entry(TWO), revision=2)]
        told_by.watches = [[CREATED, None]]
        assert await told_by.changes(2) == [Listing((ONE,)), Listing((TWO,))]
        assert told_by.began()[0] == 6


@pytest.mark.asyncio
async def test_listing_has_a_time_however_many_pages_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(etcd_reader, "_LISTING", 0.05)
    async with story() as told_by:
        told_by.lists = [page(entry(ONE), more=True)]
        with pytest.raises(RegistryLost, match="no whole answer"):
            await told_by.reader.list("Arith")


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)
