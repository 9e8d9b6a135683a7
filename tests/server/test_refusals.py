"""Errors that server code raises on purpose: who gets what, and whether it is true that nothing ran."""

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

import fastrpc
from fastrpc.call.refusal import REFUSALS
from fastrpc.wire import NOT_RUN
from tests.policy.served import CALM, WAYS, connected, wrapping
from tests.server.serving import serving

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("both_twins")]


def refusing(error: Exception, *, after: bool = False) -> fastrpc.Interceptor:
    async def refuse(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        if after:
            await handler(call)
        raise error

    return wrapping(refuse)


class Raises:
    """Handlers of every kind that raise what the test gives them."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error or Exception()
        self.runs = 0

    def _go(self) -> Any:
        self.runs += 1
        raise self.error

    def sync(self) -> None:
        self._go()

    async def inline(self) -> None:
        self._go()

    @fastrpc.rpc(blocking=True)
    def thread(self) -> None:
        self._go()

    def filled(self, call: fastrpc.Call = fastrpc.GIVEN) -> None:
        self._go()

    async def gives(self) -> AsyncIterator[int]:
        yield 1
        self._go()

    async def nested(self, peer: fastrpc.Peer = fastrpc.GIVEN) -> None:
        await peer.call("There.refuse")

    async def nested_stream(self, peer: fastrpc.Peer = fastrpc.GIVEN) -> None:
        async with peer.stream("There.missing") as stream:
            await stream.result()

    async def nested_arguments(self, peer: fastrpc.Peer = fastrpc.GIVEN) -> None:
        await peer.options(metadata={"NOT LOWER": "x"}).call("There.refuse")  # type: ignore[attr-defined]


class There:
    def refuse(self) -> None:
        raise fastrpc.PermissionDenied("not there")


@pytest.mark.parametrize("kind", REFUSALS)
async def test_every_class_arrives_from_an_interceptor(kind: type[fastrpc.CallError]) -> None:
    error = kind("because", retry_after=1.5)
    async with connected(server=[refusing(error)]) as (client, work, server):
        for way in WAYS.values():
            with pytest.raises(fastrpc.CallError, match="because") as caught:
                await way(client)
            assert type(caught.value) is kind
            assert caught.value.status == kind.status
            assert caught.value.ran == ("no" if kind.status in NOT_RUN else "maybe")
            assert caught.value.method.startswith("Work.")
            assert caught.value.call_id
            if kind is not fastrpc.DeadlineExceeded:
                assert caught.value.retry_after == 1.5
        assert not work.runs
        assert server.stats().refused == (len(WAYS) if kind.status in NOT_RUN else 0)


@pytest.mark.parametrize("kind", REFUSALS)
async def test_once_the_handler_has_run_nobody_is_told_that_it_has_not(
    kind: type[fastrpc.CallError],
) -> None:
    async with connected(server=[refusing(kind("because"), after=True)]) as (client, work, server):
        for way in ("sync", "task", "thread", "takes"):
            with pytest.raises(fastrpc.CallError, match="because") as caught:
                await WAYS[way](client)
            assert type(caught.value) is kind
            assert caught.value.status == kind.status
            assert caught.value.ran == ("yes" if kind.status in NOT_RUN else "maybe")
        assert work.runs == ["sync", "task", "thread", "takes"]
        assert server.stats().refused == 0


@pytest.mark.parametrize("way", ["sync", "inline", "thread", "filled", "gives"])
@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_handler_refuses(way: str, wrapped: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def plain(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        return await handler(call)

    service = Raises(fastrpc.PermissionDenied("not yours"))
    interceptors = [wrapping(plain)] if wrapped else []
    async with serving(service, interceptors=interceptors) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            with pytest.raises(fastrpc.PermissionDenied, match="not yours") as caught:
                if way == "gives":
                    async for item in client.stream("Raises.gives"):
                        assert item == 1
                else:
                    await client.call(f"Raises.{way}")
            assert (caught.value.ran, caught.value.status) == ("yes", 45)
            assert server.stats().methods[f"Raises.{way}"] == (1, 1)
    assert service.runs == 1
    assert not caplog.records  # an answer, and no fault


async def test_a_blocking_client_gets_the_same() -> None:
    from tests.client.served import Background

    error = fastrpc.Overloaded("come back", retry_after=2.0)
    with Background(interceptors=[refusing(error)]) as server:
        with fastrpc.connect_sync(server.target) as client:
            with pytest.raises(fastrpc.Overloaded, match="come back") as caught:
                client.call("Work.add", 1, 2)
            assert (caught.value.ran, caught.value.retry_after) == ("no", 2.0)


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("nested", "PermissionDenied"),
        ("nested_stream", "MethodNotFound"),
        ("nested_arguments", "InvalidArgument"),
    ],
)
async def test_what_only_passes_through_is_a_fault_of_ours(
    method: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(Raises(), log=logging.getLogger("tests.loud")) as server:
        client = fastrpc.connect(server.targets[0])
        client.register(There())
        async with client:
            with pytest.raises(fastrpc.RemoteError) as caught:
                await client.call(f"Raises.{method}")
            assert (caught.value.type, caught.value.status, caught.value.ran) == (kind, 50, "yes")
    assert f"Raises.{method} raised {kind}" in caplog.text


async def test_an_interceptor_lets_nothing_through_either() -> None:
    """The one that asks somebody else first: his refusal is not ours."""

    async def ask(handler: fastrpc.Handler, call: fastrpc.Call) -> fastrpc.Reply:
        assert call.peer is not None
        await call.peer.call("There.missing")
        return await handler(call)

    async with serving(Raises(), log=CALM, interceptors=[wrapping(ask)]) as server:
        client = fastrpc.connect(server.targets[0])
        client.register(There())
        async with client:
            with pytest.raises(fastrpc.RemoteError) as caught:
                await client.call("Raises.sync")
            assert (caught.value.type, caught.value.status) == ("MethodNotFound", 50)


async def test_an_item_too_large_for_another_stream_is_not_ours() -> None:
    class Relay:
        async def send(self, peer: fastrpc.Peer = fastrpc.GIVEN) -> None:
            async with peer.stream("Sink.take") as stream:
                await stream.send(b"x" * 5000)

    class Sink:
        async def take(self, items: AsyncIterator[bytes]) -> int:
            return sum([1 async for _ in items])

    async with serving(Relay(), log=CALM) as server:
        client = fastrpc.connect(server.targets[0], max_body=4096)
        client.register(Sink())
        async with client:
            with pytest.raises(fastrpc.RemoteError) as caught:
                await client.call("Relay.send")
            assert caught.value.type == "TooLarge"


async def test_an_oneway_call_that_is_refused_is_told_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Raises()
    error = fastrpc.PermissionDenied("not you")
    async with serving(service, interceptors=[refusing(error)]) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            client.notify("Raises.sync")
            with pytest.raises(fastrpc.PermissionDenied):
                await client.call("Raises.sync")
    assert "oneway call refused: not you" in caplog.text
    assert not service.runs


async def test_a_derived_class_arrives_as_what_it_derives_from() -> None:
    class NotYours(fastrpc.PermissionDenied):
        pass

    async with serving(Raises(NotYours("no"))) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            with pytest.raises(fastrpc.PermissionDenied, match="no") as caught:
                await client.call("Raises.sync")
            assert type(caught.value) is fastrpc.PermissionDenied


class Takes:
    """Takes items and lets what is wrong with one through."""

    async def total(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])

    async def relay(self, items: AsyncIterator[Any], peer: fastrpc.Peer = fastrpc.GIVEN) -> int:
        stream = peer.stream("Takes.total")  # the same method, and perhaps the same id, there
        async with stream:
            await stream.feed(items)
            return int(await stream.result())


@pytest.mark.parametrize("codec", ["msgpack", "json"])
async def test_an_item_that_cannot_be_read_is_its_senders_fault(
    caplog: pytest.LogCaptureFixture, codec: str
) -> None:
    async with serving(Takes()) as server:
        async with fastrpc.connect(server.targets[0], codec=codec) as client:
            async with client.stream("Takes.total") as stream:
                await stream.feed([1, "two"])
                with pytest.raises(fastrpc.InvalidArgument) as caught:
                    await stream.result()
    told = "Takes.total: item 2: expected int, got str"
    assert (str(caught.value), caught.value.ran, caught.value.method) == (
        told,
        "yes",
        "Takes.total",
    )
    assert not caplog.records


async def test_an_item_that_cannot_be_read_elsewhere_is_a_fault() -> None:
    async with serving(Takes()) as server:
        client = fastrpc.connect(server.targets[0])
        client.register(Takes())
        async with client, client.stream("Takes.relay") as stream:
            await stream.feed(["one"])
            with pytest.raises(fastrpc.RemoteError) as caught:
                await stream.result()
    assert caught.value.type == "InvalidArgument"
