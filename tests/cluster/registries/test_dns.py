import asyncio
import socket
import threading
from contextlib import aclosing
from typing import Any

import dns.rcode
import pytest

import fastrpc
from fastrpc.cluster import Instance, Listing, parse_cluster
from fastrpc.cluster.registries import dns as dns_module
from fastrpc.cluster.registries.dns import DnsRegistry, Found, look_up_addresses
from fastrpc.cluster.registries.srv import look_up_service
from fastrpc.errors import ConfigError, RegistryLost
from fastrpc.testing.registry import check_registry
from tests.cluster.registrars import Clock
from tests.cluster.stubdns import stub_dns

NAME = "_arith._tcp.example.test"
ONE = Instance(id="one", addresses=("tcp://10.0.0.1:7000",))
TWO = Instance(id="two", addresses=("tcp://10.0.0.2:7000",))


def open_name(look: Any, target: str = "dns://example.test:7000", **options: Any) -> DnsRegistry:
    return DnsRegistry(parse_cluster(target), look=look, **options)


@pytest.mark.asyncio
async def test_it_keeps_the_contract() -> None:
    await check_registry(
        lambda: DnsRegistry(parse_cluster("dns://127.0.0.1:7000")), service="127.0.0.1"
    )


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
@pytest.mark.asyncio
async def test_each_address_of_a_name_is_an_instance(host: str) -> None:
    registry = DnsRegistry(parse_cluster(f"dns://{host}:7000"))
    instances = (await registry.list("Arith")).instances
    wanted = {"localhost": {"127.0.0.1", "[::1]"}, "127.0.0.1": {"127.0.0.1"}, "[::1]": {"[::1]"}}
    addresses = {each.addresses[0] for each in instances}
    assert addresses
    assert addresses <= {f"tcp://{each}:7000" for each in wanted[host]}
    assert (await registry.list("Words")).instances == instances
    assert await registry.services() == (host.strip("[]").replace(":", "-"),)
    await registry.aclose()
    with pytest.raises(RegistryLost, match="closed"):
        await registry.list("Arith")


@pytest.mark.parametrize(
    ("code", "is_answer"),
    [(socket.EAI_NONAME, True), (socket.EAI_NODATA, True), (socket.EAI_AGAIN, False),
     (socket.EAI_FAIL, False), (socket.EAI_SYSTEM, False)],
)  # fmt: skip
def test_who_knows_that_there_is_nothing_and_who_does_not_know(
    code: int, is_answer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(code, "no")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    if is_answer:
        assert look_up_addresses("a", 1) == Found(Listing(()))
    else:
        with pytest.raises(RegistryLost, match="dns a: no"):
            look_up_addresses("a", 1)


def test_the_order_of_addresses_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(2, 1, 6, "", (f"10.0.0.{n}", 7000)) for n in (3, 1, 2, 1)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    first = look_up_addresses("a", 7000)
    assert len(first.listing.instances) == 3
    answers.reverse()
    assert look_up_addresses("a", 7000) == first


@pytest.mark.asyncio
async def test_srv_records_by_a_real_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with stub_dns() as server:
        monkeypatch.setattr(
            dns_module, "look_up_service", lambda name: look_up_service(name, server.resolver())
        )
        server.says("0 1 7000 b.example.test.", "0 1 7000 a.example.test.", ttl=1)
        registry = DnsRegistry(parse_cluster(f"dns://{NAME}"))
        async with aclosing(registry.watch("Arith")) as watch:
            first = await anext(watch)
            assert isinstance(first, Listing)
            assert len(first.instances) == 2
            again = await registry._aside.ask(10)
            assert again.again == 5.0  # a time to live of 1 s is too short for us
            server.says("0 1 7000 a.example.test.", "0 1 7000 b.example.test.", ttl=86_400)
            turned = await registry._aside.ask(10)
            assert (turned.listing, turned.again) == (first, 300.0)
        server.fails(dns.rcode.NXDOMAIN)
        assert await registry.list("Arith") == Listing(())
        server.fails(dns.rcode.SERVFAIL)
        with pytest.raises(RegistryLost):
            await registry.list("Arith")
        with pytest.raises(RegistryLost):
            await anext(registry.watch("Arith"))


def test_srv_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_module, "look_up_service", None)
    with pytest.raises(ConfigError, match=r"pip install 'fastrpc\[dns\]'"):
        DnsRegistry(parse_cluster(f"dns://{NAME}"))
    DnsRegistry(parse_cluster("dns://localhost:1"))  # which the others don't


@pytest.mark.asyncio
async def test_a_watch_looks_again_when_it_is_time_and_tells_what_is_new() -> None:
    answers = [Listing((ONE,)), Listing((ONE,)), Listing(()), Listing((TWO,))]
    asked = 0

    def look() -> Found:
        nonlocal asked
        asked += 1
        return Found(answers[min(asked, len(answers)) - 1], again=0.001)

    async with aclosing(open_name(look).watch("Arith")) as watch:
        assert await anext(watch) == answers[0]
        assert await anext(watch) == answers[2]  # who looks at lists doubts it
        assert await anext(watch) == answers[3]
    assert asked == 4


@pytest.mark.asyncio
async def test_a_hint_brings_the_next_look_but_not_within_thirty_seconds() -> None:
    clock, asked = Clock(), 0

    def look() -> Found:
        nonlocal asked
        asked += 1
        return Found(Listing((ONE, TWO)[: 1 + asked % 2]), again=300.0)

    registry = open_name(look, clock=clock)
    async with aclosing(registry.watch("Arith")) as watch:
        await anext(watch)
        waiting = asyncio.ensure_future(anext(watch))
        for second in range(30):
            registry.hint()
            for _ in range(5):
                await asyncio.sleep(0)
            assert (asked, waiting.done()) == (1, False), second
            clock.now += 1.0
        registry.hint()
        assert await waiting == Listing((ONE,))
        assert asked == 2
        waiting = asyncio.ensure_future(anext(watch))
        for _ in range(60):  # without a hint it has five minutes
            clock.now += 4.9
            registry._wake()
            await asyncio.sleep(0)
        assert not waiting.done()
        clock.now += 20.0
        registry._wake()
        assert await waiting == Listing((ONE, TWO))


@pytest.mark.asyncio
async def test_a_resolver_that_hangs_delays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_module, "PATIENCE", 0.01)
    gate, hanging = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> list[Any]:
        hanging.set()
        assert gate.wait(10)
        return [(2, 1, 6, "", ("10.0.0.1", 7000))]

    server = fastrpc.Server()
    server.register(abs, "abs")
    await server.start("tcp://127.0.0.1:0")
    async with fastrpc.connect(server.targets[0]) as client:
        monkeypatch.setattr(dns_module.socket, "getaddrinfo", hang)
        registries = [DnsRegistry(parse_cluster("dns://example.test:7000")) for _ in range(3)]
        try:
            for registry in registries * 3:
                with pytest.raises(RegistryLost, match="no answer within"):
                    await registry.list("Arith")
            assert hanging.is_set()
            stuck = [each for each in threading.enumerate() if each.name == "fastrpc-dns"]
            assert len(stuck) == 3  # one for each, however often it was asked
            loop = asyncio.get_running_loop()
            assert len(await asyncio.gather(*(loop.run_in_executor(None, int) for _ in "x" * 50)))
            assert await client.call("abs", -1) == 1
        finally:
            gate.set()
        monkeypatch.setattr(dns_module, "PATIENCE", 10.0)
        for registry in registries:
            assert len((await registry.list("Arith")).instances) == 1
    for thread in stuck:
        thread.join(10)
    await server.aclose(0.0)
