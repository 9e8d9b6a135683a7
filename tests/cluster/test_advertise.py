"""What a registry is told of a server leads to it, from elsewhere too."""

import asyncio
import logging
import re
import socket
from typing import Any

import pytest

import fastrpc
from fastrpc.cluster import Instance, MemoryRegistry, MemoryStore
from fastrpc.cluster import advertise as advertise_module
from fastrpc.cluster.advertise import (
    find_hosts,
    make_announcer,
    make_entries,
    make_id,
    reachable,
)
from fastrpc.server.announcing import AnnounceOptions

HOSTS = {int(socket.AF_INET): "10.0.0.5", int(socket.AF_INET6): "2001:db8::5"}
ALL = ("fastrpc", "upgrade", "websocket", "http")


def doors(*targets: str, opened: tuple[str, ...] = ALL) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(targets, opened)


@pytest.mark.parametrize(
    ("listening", "told"),
    [
        (["tcp://10.1.1.1:7000"], ["tcp://10.1.1.1:7000"]),
        (["tcp://0.0.0.0:7000"], ["tcp://10.0.0.5:7000"]),
        (["tls://0.0.0.0:7443"], ["tls://10.0.0.5:7443"]),
        (["tcp://[::]:7000"], ["tcp://[2001:db8::5]:7000"]),
        (["tcp://0.0.0.0:7", "tcp://[::]:7"], ["tcp://10.0.0.5:7", "tcp://[2001:db8::5]:7"]),
        (["tcp://10.0.0.5:7", "tcp://0.0.0.0:7"], ["tcp://10.0.0.5:7"]),
        (["tcp://127.0.0.1:7000"], ["tcp://127.0.0.1:7000"]),
        (["unix:///run/x"], ["unix:///run/x"]),
        (["mem://x"], ["mem://x"]),
        (["unix:///run/x", "tcp://127.0.0.1:1"], ["unix:///run/x", "tcp://127.0.0.1:1"]),
        (["unix:///run/x", "tcp://127.0.0.1:1", "tcp://0.0.0.0:2"], ["tcp://10.0.0.5:2"]),
        (["ws://0.0.0.0:80"], ["ws://10.0.0.5:80"]),
        (["jsonrpc://0.0.0.0:1", "tcp://0.0.0.0:2"], ["tcp://10.0.0.5:2"]),
    ],
)
def test_where_a_server_can_be_dialled(listening: list[str], told: list[str]) -> None:
    assert reachable(doors(*listening), HOSTS) == tuple(told)


@pytest.mark.parametrize(
    ("advertise", "told"),
    [
        ("shop.example", ["tcp://shop.example:7000"]),
        ("2001:db8::9", ["tcp://[2001:db8::9]:7000"]),
        ("[2001:db8::9]", ["tcp://[2001:db8::9]:7000"]),
        (["a", "b"], ["tcp://a:7000", "tcp://b:7000"]),
        ("tcp://203.0.113.7:17000", ["tcp://203.0.113.7:17000"]),
        (["tls://a:1", "tcp://b:2"], ["tls://a:1", "tcp://b:2"]),
    ],
)
def test_what_somebody_has_said_is_what_is_told(advertise: Any, told: list[str]) -> None:
    assert reachable(doors("tcp://0.0.0.0:7000"), HOSTS, advertise) == tuple(told)


@pytest.mark.parametrize(
    ("listening", "advertise", "words"),
    [
        ([], None, "listens nowhere"),
        (["jsonrpc://10.0.0.1:1"], None, "listens nowhere"),
        (["tcp://0.0.0.0:1"], ["a", "tcp://b:1"], "either"),
        (["tcp://0.0.0.0:1"], "tcp://b:0", "nobody can dial"),
        (["tcp://0.0.0.0:1"], "0.0.0.0", "nobody can dial"),
        (["tcp://0.0.0.0:1"], "a b", "target"),
        (["tcp://0.0.0.0:1"], "ftp://x:1", "unknown scheme"),
    ],
)
def test_what_leads_nowhere(listening: list[str], advertise: Any, words: str) -> None:
    with pytest.raises(fastrpc.ConfigError, match=words):
        reachable(doors(*listening), HOSTS, advertise)


def test_a_door_that_is_closed_is_not_told_of() -> None:
    where = {"tcp://10.0.0.1:1": ("http",), "ws://10.0.0.1:2": ("websocket",)}
    assert reachable(where, HOSTS) == ("ws://10.0.0.1:2",)


def test_a_family_without_an_address_gets_the_name_of_the_machine() -> None:
    only_four = {int(socket.AF_INET): "10.0.0.5"}
    name = socket.gethostname()
    assert reachable(doors("tcp://[::]:7"), only_four) == (f"tcp://{name}:7",)
    assert reachable(doors("tcp://0.0.0.0:7", "tcp://[::]:7"), only_four) == ("tcp://10.0.0.5:7",)


def test_not_more_addresses_than_an_instance_has() -> None:
    found = reachable(doors(*[f"tcp://10.0.0.1:{n}" for n in range(1, 20)]), HOSTS)
    assert Instance(id="a", addresses=found).addresses[-1] == "tcp://10.0.0.1:8"


@pytest.mark.asyncio
async def test_the_address_is_the_one_that_leads_to_the_registry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def source_of(family: int, address: Any) -> str:
        asked.append(address[0])
        return "10.9.9.9" if address[0] == "192.0.2.7" else ""

    monkeypatch.setattr(advertise_module, "_source_of", source_of)
    assert await find_hosts([("127.0.0.1", 2379), ("192.0.2.7", 2379)]) == {
        int(socket.AF_INET): "10.9.9.9"
    }
    assert asked == ["127.0.0.1", "192.0.2.7"]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_registry_on_this_machine_says_nothing(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    assert advertise_module._source_of(family, (host, 9)) == ""


@pytest.mark.asyncio
async def test_without_an_address_it_is_the_host_name_and_at_last_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    assert set((await find_hosts([])).values()) == {"localhost"}
    monkeypatch.setattr(socket, "gethostname", lambda: "a" * 70)  # no name can be so long
    assert (await find_hosts([]))[int(socket.AF_INET)] == "127.0.0.1"


@pytest.mark.asyncio
async def test_a_name_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advertise_module, "_PATIENCE", 0.01)

    async def hang(*args: Any, **kwargs: Any) -> Any:
        await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    try:
        monkeypatch.setattr(loop, "getaddrinfo", hang)
    except AttributeError:  # uvloop's can't be replaced
        return
    assert (await find_hosts([("etcd.example", 2379)]))[int(socket.AF_INET)] == "127.0.0.1"


def test_ids_are_readable_and_never_the_same() -> None:
    found = {make_id("tcp://[2001:db8::5]:7000") for _ in range(100)}
    assert len(found) == 100
    assert all(re.fullmatch(r"2001-db8-5-7000-[0-9a-f]{12}", each) for each in found)
    for odd in ("unix://@", "mem://" + "x" * 255, "unix:///run/ä"):
        Instance(id=make_id(odd), addresses=("tcp://h:1",))


def test_each_version_and_group_has_an_entry_of_its_own() -> None:
    like = Instance(id="me", addresses=("tcp://h:1",), zone="eu")
    found = make_entries(
        [("Arith", "2", "eu"), ("Arith", "", ""), ("Shop", "", ""), ("Arith", "", "")], like
    )
    assert [(name, each.id, each.version, each.group) for name, each in found] == [
        ("Arith", "me", "2", "eu"),
        ("Arith", "me.2", "", ""),
        ("Shop", "me", "", ""),
    ]
    assert {each.zone for _, each in found} == {"eu"}
    with pytest.raises(fastrpc.ConfigError, match="version"):
        make_entries([("Arith", "2+", "")], like)


@pytest.mark.parametrize(
    ("registry", "options", "words"),
    [
        (7, {}, "Registry"),
        ("tcp://h:1", {}, "registry"),
        ("etcd://127.0.0.1:1/x y", {}, "name"),
        ("static:tcp://h:1", {}, "publish"),
        (None, {"weight": 0}, "weight"),
        (None, {"zone": "a b"}, "zone"),
        (None, {"tags": {"a": 1}}, "tags"),
        (None, {"id": "a b"}, "id"),
    ],
)
@pytest.mark.asyncio
async def test_what_can_not_be_announced(registry: Any, options: Any, words: str) -> None:
    where = MemoryRegistry(MemoryStore()) if registry is None else registry
    with pytest.raises(fastrpc.ConfigError, match=words):
        await make_announcer(
            where, doors("tcp://10.0.0.1:1"), [("Shop", "", "")], AnnounceOptions(**options),
            logging.getLogger("tests"),
        )  # fmt: skip
