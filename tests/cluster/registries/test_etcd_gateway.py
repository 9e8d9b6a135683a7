"""The gateway takes every answer with a limit and a time, and goes on to the next host."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web

from fastrpc.cluster import parse_cluster
from fastrpc.cluster.registries.etcd_gateway import ANSWER_MAX, Gateway, Refusal, TooLong
from fastrpc.errors import RegistryLost
from tests.cluster.engines.fake_etcd import FakeEtcd, problem


class Sum(msgspec.Struct):
    sum: int = 0
    data: bytes = b""


@asynccontextmanager
async def gateway_to(places: str, patience: float = 10, login: str = "") -> AsyncIterator[Gateway]:
    gateway = Gateway(parse_cluster(f"etcd://{login}{places}"), patience)
    try:
        yield gateway
    finally:
        await gateway.aclose()


def nobody() -> str:
    """Return a place where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.asyncio
async def test_numbers_in_quotes_and_bytes_are_read() -> None:
    async with FakeEtcd() as fake, gateway_to(fake.place) as gateway:
        fake.answers["kv/x"] = lambda question: {"sum": "9007199254740993", "data": "AQI=", "z": 1}
        answer = await gateway.ask("kv/x", {"key": b"\x01\x02"}, Sum)
        assert answer == Sum(9007199254740993, b"\x01\x02")
        assert fake.asked == [("kv/x", {"key": "AQI="})]
        assert fake.headers["Accept-Encoding"] == "identity"
        assert "Authorization" not in fake.headers
        assert gateway.unsure == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("code", [3, 5, 7, 9, 11])
async def test_final_refusal_is_an_answer(code: int) -> None:
    async with FakeEtcd() as fake, gateway_to(f"{fake.place},{nobody()}") as gateway:
        fake.answers["kv/x"] = lambda question: problem(code, "no" * 400)
        assert await gateway.ask("kv/x", {}, Sum) == Refusal(code, "no" * 150)
        assert gateway.unsure == 0


@pytest.mark.asyncio
async def test_host_that_can_not_is_left_for_the_next() -> None:
    async with FakeEtcd() as one, FakeEtcd() as two:
        one.answers["kv/x"] = lambda question: problem(14, "etcdserver: no leader", 503)
        two.answers["kv/x"] = lambda question: {"sum": 2}
        async with gateway_to(f"{nobody()},{one.place},{two.place}") as gateway:
            assert await gateway.ask("kv/x", {}, Sum) == Sum(2)
            assert await gateway.ask("kv/x", {}, Sum) == Sum(2)
            assert (gateway.at, one.count("kv/x"), two.count("kv/x")) == (2, 1, 2)
            assert gateway.unsure == 1  # what said "no leader" may have done it


@pytest.mark.asyncio
async def test_one_host_may_be_asked_alone() -> None:
    async with FakeEtcd() as fake, gateway_to(f"{nobody()},{fake.place}") as gateway:
        fake.answers["kv/x"] = lambda question: {"sum": 2}
        with pytest.raises(RegistryLost):
            await gateway.ask("kv/x", {}, Sum, 0)
        assert await gateway.ask("kv/x", {}, Sum, 1) == Sum(2)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"<html>",
        b'{"sum": "many"}',
        b"[1]",
        b'{"sum": 1e400}',
        b"\xff",
    ],
)
async def test_what_is_no_answer_of_etcds_is_none(answer: bytes) -> None:
    async with FakeEtcd() as fake, gateway_to(fake.place) as gateway:
        fake.answers["kv/x"] = lambda question: web.Response(body=answer)
        with pytest.raises(RegistryLost, match="no JSON of etcd"):
            await gateway.ask("kv/x", {}, Sum)
        assert gateway.unsure == 1


@pytest.mark.asyncio
async def test_answer_over_the_limit_is_not_read() -> None:
    async with FakeEtcd() as fake, gateway_to(fake.place) as gateway:
        text = b'{"sum": 1}'
        fake.answers["kv/x"] = lambda question: web.Response(body=text.ljust(ANSWER_MAX))
        assert await gateway.ask("kv/x", {}, Sum) == Sum(1)
        fake.answers["kv/x"] = lambda question: web.Response(body=text.ljust(ANSWER_MAX + 1))
        assert await gateway.ask_long("kv/x", {}, Sum) == TooLong()
        with pytest.raises(RegistryLost, match=f"over {ANSWER_MAX} bytes"):
            await gateway.ask("kv/x", {}, Sum)


@pytest.mark.asyncio
async def test_neither_redirects_nor_compressed_answers_are_followed() -> None:
    async with FakeEtcd() as fake, gateway_to(fake.place) as gateway:
        where = {"Location": f"http://{fake.place}/v3/kv/y"}
        fake.answers["kv/x"] = lambda question: web.Response(status=307, headers=where)
        with pytest.raises(RegistryLost, match="307"):
            await gateway.ask("kv/x", {}, Sum)
        assert fake.count("kv/y") == 0
        gzip = {"Content-Encoding": "gzip"}
        fake.answers["kv/x"] = lambda question: web.Response(body=b"\x1f\x8b\x08", headers=gzip)
        with pytest.raises(RegistryLost, match="no JSON of etcd"):
            await gateway.ask("kv/x", {}, Sum)


@pytest.mark.asyncio
async def test_silent_host_costs_half_the_time_and_the_next_is_asked() -> None:
    async with FakeEtcd() as slow, FakeEtcd() as fast:
        slow.answers["kv/x"] = lambda question: asyncio.Event().wait()
        fast.answers["kv/x"] = lambda question: {"sum": 2}
        async with gateway_to(f"{slow.place},{fast.place}", 0.2) as gateway:
            assert await gateway.ask("kv/x", {}, Sum) == Sum(2)
            assert (gateway.at, gateway.unsure) == (1, 1)
        async with gateway_to(slow.place, 0.05) as gateway:
            with pytest.raises(RegistryLost, match="etcd 127"):
                await gateway.ask("kv/x", {}, Sum)
            assert gateway.unsure == 1


@pytest.mark.asyncio
async def test_cancelled_question_may_have_arrived() -> None:
    async with FakeEtcd() as fake, gateway_to(fake.place) as gateway:
        fake.answers["kv/x"] = lambda question: asyncio.Event().wait()
        asking = asyncio.ensure_future(gateway.ask("kv/x", {}, Sum))
        while not fake.asked:
            await asyncio.sleep(0.001)
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()
        assert gateway.unsure == 1


class Keeper:
    """Lets in who has the newest of its tokens."""

    def __init__(self, fake: FakeEtcd, over: tuple[int, str] = (16, "invalid auth token")) -> None:
        self.given = 0
        self._fake = fake
        self._over = over
        fake.answers["auth/authenticate"] = self.login
        fake.answers["kv/x"] = self.ask

    def login(self, question: dict[str, Any]) -> Any:
        if question != {"name": "me", "password": "se:cr@et"}:
            return problem(3, "authentication failed, invalid user ID or password")
        self.given += 1
        return {"token": f"token{self.given}"}

    def ask(self, question: dict[str, Any]) -> Any:
        if self._fake.headers.get("Authorization") == f"token{self.given}":
            return {"sum": self.given}
        return problem(*self._over)


LOGIN = "me:se%3Acr%40et@"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "over",
    [
        (16, "invalid auth token"),
        (3, "etcdserver: user name is empty"),
        (3, "etcdserver: revision of auth store is old"),
    ],
)
async def test_login_is_renewed_when_it_is_over(over: tuple[int, str]) -> None:
    async with FakeEtcd() as fake, gateway_to(fake.place, login=LOGIN) as gateway:
        keeper = Keeper(fake, over)
        assert await gateway.ask("kv/x", {}, Sum) == Sum(1)
        assert await gateway.ask("kv/x", {}, Sum) == Sum(1)
        keeper.given = 5  # what was given before counts no more
        answers = await asyncio.gather(*(gateway.ask("kv/x", {}, Sum) for _ in range(5)))
        assert answers == [Sum(6)] * 5
        assert fake.count("auth/authenticate") == 2


@pytest.mark.asyncio
async def test_refused_login_names_the_user_and_not_the_password() -> None:
    async with FakeEtcd() as fake, gateway_to(fake.place, login="me:wrong@") as gateway:
        Keeper(fake)
        with pytest.raises(RegistryLost, match="refuses me: authentication failed") as caught:
            await gateway.ask("kv/x", {}, Sum)
        assert "wrong" not in str(caught.value)


@pytest.mark.asyncio
async def test_etcd_without_logins_is_asked_without_one() -> None:
    async with FakeEtcd() as fake, gateway_to(fake.place, login=LOGIN) as gateway:
        fake.answers["auth/authenticate"] = lambda question: problem(9, "not enabled")
        fake.answers["kv/x"] = lambda question: {"sum": 1}
        assert await gateway.ask("kv/x", {}, Sum) == Sum(1)
        assert await gateway.ask("kv/x", {}, Sum) == Sum(1)
        assert fake.count("auth/authenticate") == 1


@pytest.mark.asyncio
async def test_stream_gives_lines_however_they_are_cut() -> None:
    async with FakeEtcd() as fake, gateway_to(fake.place) as gateway:
        pieces = [b'{"a"', b":1}\n{", b'"b":2}\n\n', b'{"c":3}\n', b"rest"]
        fake.answers["watch"] = lambda question: pieces
        async with gateway.stream("watch", {}) as stream:
            assert [await stream.next() for _ in range(4)] == [
                b'{"a":1}', b'{"b":2}', b'{"c":3}', None,
            ]  # fmt: skip
        assert fake.headers["Grpc-Metadata-hasleader"] == "true"


@pytest.mark.asyncio
async def test_piece_of_a_stream_has_a_limit() -> None:
    async with FakeEtcd() as fake, gateway_to(fake.place) as gateway:
        fake.answers["watch"] = lambda question: [b"x" * ANSWER_MAX, b"x", None]
        async with gateway.stream("watch", {}) as stream:
            assert await stream.next() == TooLong()


@pytest.mark.asyncio
async def test_next_of_a_stream_may_be_cancelled_and_asked_again() -> None:
    async with FakeEtcd() as fake, gateway_to(fake.place) as gateway:
        fake.answers["watch"] = lambda question: [{"a": 1}, None]
        async with gateway.stream("watch", {}) as stream:
            assert await stream.next() == b'{"a": 1}'
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await stream.next()
            await gateway.aclose()
            with pytest.raises(RegistryLost):
                await stream.next()


@pytest.mark.asyncio
async def test_stream_that_can_not_be_opened_leaves_the_host() -> None:
    async with FakeEtcd() as fake, gateway_to(f"{nobody()},{fake.place}") as gateway:
        fake.answers["watch"] = lambda question: problem(14, "no leader", 503)
        for at in (1, 0):
            with pytest.raises(RegistryLost):
                async with gateway.stream("watch", {}):
                    pass
            assert gateway.at == at


@pytest.mark.asyncio
async def test_closed_gateway_says_so() -> None:
    gateway = Gateway(parse_cluster("etcd://127.0.0.1:1"), 1)
    await gateway.aclose()
    await gateway.aclose()
    with pytest.raises(RegistryLost, match="closed"):
        await gateway.ask("kv/x", {}, Sum)


@pytest.mark.asyncio
async def test_question_under_way_ends_with_the_gateway() -> None:
    async with FakeEtcd() as fake, gateway_to(fake.place) as gateway:
        fake.answers["kv/x"] = lambda question: asyncio.Event().wait()
        asking = asyncio.ensure_future(gateway.ask("kv/x", {}, Sum))
        while not fake.asked:
            await asyncio.sleep(0.001)
        await gateway.aclose()
        with pytest.raises(RegistryLost):
            await asking
