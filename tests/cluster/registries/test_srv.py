from collections.abc import Iterator

import dns.message
import dns.rcode
import pytest

from fastrpc.cluster.registries import srv as srv_module
from fastrpc.cluster.registries.srv import look_up_service
from fastrpc.errors import RegistryLost
from tests.cluster.stubdns import StubDns, stub_dns

NAME = "_arith._tcp.example.test"


@pytest.fixture
def server() -> Iterator[StubDns]:
    """Give a name server of our own."""
    with stub_dns() as server:
        yield server


def test_hosts_ports_and_weights_of_the_lowest_priority(server: StubDns) -> None:
    server.says(
        "10 5 7000 a.example.test.", "10 1 7001 b.example.test.", "10 0 7002 c.example.test.",
        "20 9 7000 standby.example.test.", ttl=77,
    )  # fmt: skip
    instances, skipped, ttl = look_up_service(NAME, server.resolver())
    assert {each.addresses[0]: each.weight for each in instances} == {
        "tcp://a.example.test:7000": 5,
        "tcp://b.example.test:7001": 1,
        "tcp://c.example.test:7002": 0.1,
    }
    assert (skipped, ttl) == (0, 77.0)
    again, _, _ = look_up_service(NAME, server.resolver())
    assert {each.id for each in again} == {each.id for each in instances}
    assert server.asked == 2


def test_heavy_weights_are_taken_as_heavy_as_can_be(server: StubDns) -> None:
    server.says("0 65535 7000 a.example.test.")
    ((instance,), _, _) = look_up_service(NAME, server.resolver())
    assert instance.weight == 10_000


def test_more_records_than_a_datagram_of_old_would_hold(server: StubDns) -> None:
    server.says(*(f"0 1 {7000 + port} host{port}.example.test." for port in range(200)))
    assert len(look_up_service(NAME, server.resolver())[0]) == 200


def test_what_cannot_be_called_is_skipped(server: StubDns) -> None:
    server.says("0 1 0 a.example.test.", "0 1 7000 b.example.test.", r"0 1 7000 c\032d.test.")
    instances, skipped, _ = look_up_service(NAME, server.resolver())
    assert [each.addresses for each in instances] == [("tcp://b.example.test:7000",)]
    assert skipped == 2


def test_a_dot_says_that_there_is_nothing(server: StubDns) -> None:
    server.says("0 0 0 .")
    assert look_up_service(NAME, server.resolver())[:2] == ((), 0)


def test_no_name_and_no_records_are_an_answer(server: StubDns) -> None:
    server.fails(dns.rcode.NXDOMAIN)
    assert look_up_service(NAME, server.resolver()) == ((), 0, 0.0)
    server.says()
    assert look_up_service(NAME, server.resolver()) == ((), 0, 0.0)


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
def test_a_server_that_cannot_say_is_no_answer(server: StubDns, code: dns.rcode.Rcode) -> None:
    server.fails(code)
    with pytest.raises(RegistryLost, match=NAME):
        look_up_service(NAME, server.resolver())


def test_a_server_that_says_nothing_is_no_answer(
    server: StubDns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(srv_module, "LIFETIME", 0.1)
    server.answer = lambda query, reply: False
    resolver = server.resolver()
    resolver.timeout = 0.02
    with pytest.raises(RegistryLost, match="lifetime"):
        look_up_service(NAME, resolver)
    assert server.asked
