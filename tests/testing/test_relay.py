"""A relay does to calls what the rules say, and to no others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

import fastrpc
from fastrpc.errors import ConfigError
from fastrpc.testing import Faults
from fastrpc.testing.faults import FaultKind
from fastrpc.testing.relay import FaultRelay

pytestmark = pytest.mark.asyncio


class Bank:
    def __init__(self) -> None:
        self.balance = 0
        self.begun = 0
        self.ended = 0
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.seen: list[int] = []

    def add(self, amount: int) -> int:
        self.balance += amount
        return self.balance

    async def slow(self, number: int) -> int:
        self.begun += 1
        self.seen.append(number)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ended += 1
        return number

    def get(self) -> int:
        return 42

    def big(self, data: bytes) -> int:
        return len(data)

    def refuse(self) -> None:
        raise ValueError("no")

    async def count(self, most: int) -> AsyncIterator[int]:
        for number in range(most):
            yield number

    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([number async for number in numbers])

    def note(self, amount: int) -> None:
        self.balance += amount

    async def ask_back(self, peer: fastrpc.Peer) -> int:
        found: int = await peer.options(timeout=0.1).call("Home.room")
        return found


class Home:
    def room(self) -> int:
        return 3


class Scene:
    def __init__(
        self, bank: Bank, server: fastrpc.Server, relay: FaultRelay, faults: Faults, client: Any
    ) -> None:
        self.bank, self.server, self.relay, self.faults, self.client = (
            bank,
            server,
            relay,
            faults,
            client,
        )
        self.call = client.call

    @property
    def kinds(self) -> list[FaultKind]:
        return [deed.kind for deed in self.faults.log]


@asynccontextmanager
async def scene(target: str = "mem://bank") -> AsyncIterator[Scene]:
    bank, faults = Bank(), Faults(seed=1)
    async with fastrpc.Server() as server:
        server.register(bank)
        await server.start(target)
        async with FaultRelay(server.targets[0], faults) as relay:
            client = fastrpc.connect(relay.target, timeout=5.0)
            client.register(Home())
            async with client:
                yield Scene(bank, server, relay, faults, client)
        assert relay.lines == set()


@pytest.mark.parametrize("target", ["mem://plain", "tcp://127.0.0.1:0"])
async def test_without_rules_all_passes(target: str) -> None:
    async with scene(target) as it:
        assert await asyncio.gather(*(it.call("Bank.add", 1) for _ in range(50))) == [*range(1, 51)]
        assert await it.call("Bank.big", b"x" * 2_000_000) == 2_000_000
        assert [n async for n in it.client.stream("Bank.count", 2000)] == [*range(2000)]
        with pytest.raises(fastrpc.FastRPCError, match="no"):
            await it.call("Bank.refuse")
        assert (it.kinds, it.relay.connections, it.faults.idle) == ([], 1, [])


async def test_a_lost_request_never_runs_and_what_follows_does() -> None:
    async with scene() as it:
        it.faults.lose_request("Bank.add", nth=1)
        with pytest.raises(fastrpc.DeadlineExceeded):
            await it.client.options(timeout=0.05).call("Bank.add", 1)
        # Its frame had the method's name, which was sent once only.
        assert await it.call("Bank.add", 5) == 5
        assert await it.call("Bank.add", 5) == 10
        assert (it.bank.balance, it.kinds) == (10, [FaultKind.LOSE_REQUEST])
        assert it.relay.connections == 1


async def test_a_lost_reply_has_run() -> None:
    async with scene() as it:
        it.faults.lose_reply("Bank.*", nth=2)
        assert await it.call("Bank.add", 1) == 1
        with pytest.raises(fastrpc.DeadlineExceeded) as caught:
            await it.client.options(timeout=0.05).call("Bank.add", 1)
        assert caught.value.ran == "maybe"
        assert await it.call("Bank.add", 1) == 3
        (deed,) = it.faults.log
        assert str(deed) == "Bank.add: reply lost: call 2 of connection 0 to mem://bank"


async def test_a_connection_breaks_while_the_handler_runs() -> None:
    async with scene() as it:
        it.bank.gate.clear()
        it.faults.fail("Bank.slow", nth=1)
        with pytest.raises(fastrpc.ConnectionLost) as caught:
            await it.call("Bank.slow", 1)
        assert caught.value.ran == "maybe"
        while not it.bank.cancelled:
            await asyncio.sleep(0)
        it.bank.gate.set()
        assert await it.call("Bank.slow", 2) == 2
        assert (it.bank.begun, it.bank.ended, it.bank.cancelled) == (2, 1, 1)
        assert (it.kinds, it.relay.connections) == ([FaultKind.FAIL], 2)


async def test_a_connection_breaks_in_place_of_the_answer() -> None:
    async with scene() as it:
        it.faults.fail("Bank.add", after=None)
        with pytest.raises(fastrpc.ConnectionLost):
            await it.call("Bank.add", 7)
        assert it.bank.balance == 7
        it.faults.clear()
        it.faults.fail("Bank.slow", after=60.0, nth=1)  # its answer comes before
        with pytest.raises(fastrpc.ConnectionLost):
            await it.call("Bank.slow", 7)
        assert it.bank.ended == 1


async def test_a_connection_breaks_after_a_while() -> None:
    async with scene() as it:
        it.bank.gate.clear()
        it.faults.fail("Bank.slow", after=0.02)
        with pytest.raises(fastrpc.ConnectionLost):
            await it.call("Bank.slow", 7)
        assert (it.bank.begun, it.bank.ended) == (1, 0)


async def test_delayed_requests_are_overtaken() -> None:
    async with scene() as it:
        it.faults.delay("Bank.slow", 0.05, nth=1)
        first = asyncio.ensure_future(it.call("Bank.slow", 1))
        assert await asyncio.gather(*(it.call("Bank.slow", n) for n in (2, 3))) == [2, 3]
        assert not first.done()
        assert await first == 1
        assert it.bank.seen == [2, 3, 1]


async def test_delayed_replies_are_overtaken_and_outlive_their_server() -> None:
    async with scene() as it:
        it.faults.delay("Bank.add", (0.02, 0.04), of="reply", nth=1)
        first = asyncio.ensure_future(it.call("Bank.add", 1))
        assert await it.call("Bank.add", 1) == 2
        assert not first.done()
        await it.server.aclose(5.0)
        assert await first == 1


async def test_a_stream_that_is_delayed_keeps_its_order() -> None:
    async with scene() as it:
        it.faults.delay("Bank.total", 0.02)

        async def numbers() -> AsyncIterator[int]:
            for number in range(100):
                yield number

        assert await it.client.stub(Bank).total(numbers()) == 4950
        assert it.kinds == [FaultKind.DELAY]


async def test_a_lost_stream_can_be_given_up() -> None:
    async with scene() as it:
        it.faults.lose_request("Bank.count", nth=1)
        with pytest.raises(fastrpc.DeadlineExceeded):
            async for _ in it.client.options(timeout=0.05).stream("Bank.count", 3):
                pass
        assert [n async for n in it.client.stream("Bank.count", 3)] == [0, 1, 2]


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_duplicate_shows_whether_the_answers_are_the_same(at_once: bool) -> None:
    async with scene() as it:
        it.faults.duplicate("Bank.*", at_once=at_once)
        assert await it.call("Bank.get") == 42
        assert not it.faults.different
        assert await it.call("Bank.add", 5) == 5
        assert it.bank.balance == 10  # both have run by now
        (deed,) = it.faults.different
        assert (deed.method, deed.detail) == ("Bank.add", "the answers differ")
        assert [n async for n in it.client.stream("Bank.count", 2)] == [0, 1]  # not twice
        assert await asyncio.gather(*(it.call("Bank.slow", n) for n in range(9))) == [*range(9)]
        assert it.bank.begun == 18
        it.faults.clear()
        assert await it.call("Bank.add", 5) == 15


async def test_a_duplicate_of_what_has_no_answer() -> None:
    async with scene() as it:
        it.faults.duplicate("Bank.note")
        it.client.notify("Bank.note", 5)
        assert await it.call("Bank.get") == 42
        assert (it.bank.balance, it.kinds) == (10, [FaultKind.DUPLICATE])


async def test_a_duplicate_that_is_given_up_is_cancelled() -> None:
    async with scene() as it:
        it.faults.duplicate("Bank.slow", at_once=True)
        it.bank.gate.clear()
        with pytest.raises(fastrpc.DeadlineExceeded):
            await it.client.options(timeout=0.05).call("Bank.slow", 1)
        assert await it.call("Bank.get") == 42
        assert (it.bank.begun, it.bank.cancelled) == (2, 2)


@pytest.mark.parametrize("target", ["mem://cut", "tcp://127.0.0.1:0"])
async def test_cut_in_mid_frame(target: str) -> None:
    async with scene(target) as it:
        it.faults.cut("Bank.add", nth=1)
        with pytest.raises(fastrpc.ConnectionLost) as caught:
            await it.call("Bank.add", 1)
        assert it.bank.balance == 0
        it.faults.clear()
        it.faults.cut("Bank.add", of="reply", after=3)
        with pytest.raises(fastrpc.ConnectionLost) as caught:
            await it.call("Bank.add", 1)
        assert caught.value.ran == "maybe"
        assert it.bank.balance == 1
        assert it.faults.log[-1].detail.startswith("reply, 3 of ")


async def test_what_the_server_calls_meets_the_same_rules() -> None:
    async with scene() as it:
        it.faults.lose_request("Home.room", nth=1)
        with pytest.raises(fastrpc.FastRPCError):
            await it.call("Bank.ask_back")
        assert await it.call("Bank.ask_back") == 3
        assert [deed.method for deed in it.faults.log] == ["Home.room"]


async def test_a_server_that_leaves_takes_what_was_sent() -> None:
    """Numbers in a GOAWAY are the callee's: lost and doubled calls have shifted them."""
    async with scene() as it:
        it.faults.duplicate("Bank.get", nth=(1, 2, 3))
        it.faults.lose_request("Bank.note", nth=1)
        for _ in range(3):
            await it.call("Bank.get")
        it.bank.gate.clear()
        calls = [asyncio.ensure_future(it.call("Bank.slow", n)) for n in range(3)]
        while it.bank.begun < 3:
            await asyncio.sleep(0)
        closing = asyncio.ensure_future(it.server.aclose(5.0))
        await asyncio.sleep(0.1)
        it.bank.gate.set()
        assert await asyncio.gather(*calls) == [0, 1, 2]
        await closing


async def test_frozen_it_carries_nothing() -> None:
    async with scene() as it:
        assert await it.call("Bank.get") == 42
        it.relay.is_frozen = True
        with pytest.raises(fastrpc.DeadlineExceeded):
            await it.client.options(timeout=0.05).call("Bank.add", 1)
        assert it.bank.balance == 0
        it.relay.is_frozen = False
        assert await it.call("Bank.get") == 42
        it.relay.cut()
        while it.relay.connections < 2:
            await asyncio.sleep(0)
        assert await it.call("Bank.get") == 42


async def test_who_speaks_no_frames_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    async with scene("tcp://127.0.0.1:0") as it:
        host, _, port = it.relay.target.removeprefix("tcp://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert "no frame begins with b'GET / " in caplog.text
        assert await it.call("Bank.get") == 42


async def test_nobody_behind_it() -> None:
    async with FaultRelay("mem://nobody", Faults()) as relay:
        client = fastrpc.connect(relay.target, connect_timeout=1.0)
        with pytest.raises(fastrpc.ConnectFailed):
            await client.call("Bank.get")
        await client.aclose()


async def test_what_it_can_not_look_into() -> None:
    for target in ("tls://h:1", "ws://h:1/x", "http://h:1"):
        with pytest.raises(ConfigError, match="can't look into"):
            FaultRelay(target, Faults())


async def test_a_blocking_client_behind_it() -> None:
    async with scene("tcp://127.0.0.1:0") as it:
        it.faults.fail("Bank.add", after=None, nth=1)

        def calls() -> int:
            with fastrpc.connect_sync(it.relay.target, timeout=5.0) as client:
                with pytest.raises(fastrpc.ConnectionLost):
                    client.call("Bank.add", 1)
                found: int = client.call("Bank.add", 1)
                return found

        assert await asyncio.to_thread(calls) == 2
