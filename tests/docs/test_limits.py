"""The page of limits has every limit and option, its default, and what happens past it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import fields, is_dataclass
from typing import Any

import pytest

import fastrpc
from fastrpc import wire
from fastrpc.client import ClientOptions
from fastrpc.client.options import ConnectOptions
from fastrpc.cluster import ClusterOptions
from fastrpc.server import ServerOptions
from fastrpc.server.options import ServerKeywords
from tests.docs.pages import ROOT, table

PAGE = (ROOT / "docs" / "guide" / "limits.md").read_text(encoding="utf-8")
LIMITS = table(PAGE, "limits")
SERVER = table(PAGE, "server")
CLIENT = table(PAGE, "client")
CLUSTER = table(PAGE, "cluster")
HTTP = table(PAGE, "http")
TLS = table(PAGE, "tls")


def named(rows: list[list[str]]) -> dict[str, list[str]]:
    return {row[0].strip("`"): row[1:] for row in rows}


def defaults(options: Any) -> dict[str, str]:
    shown = {field.name: getattr(options, field.name) for field in fields(options)}
    shown.pop("limits", None)
    return {name: _shown(value) for name, value in shown.items()}


def _shown(value: Any) -> str:
    if is_dataclass(value):
        return f"{type(value).__name__}()"
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_limits_defaults_and_ceilings() -> None:
    shown = named(LIMITS)
    assert {name: row[0] for name, row in shown.items()} == defaults(wire.Limits())
    assert {name: row[1] for name, row in shown.items()} == {
        name: str(wire.LIMIT_CEILINGS.get(name, "")) for name in shown
    }
    assert all(means and past for _, _, means, past in shown.values())


def test_options_of_the_server() -> None:
    assert {name: row[0] for name, row in named(SERVER).items()} == defaults(ServerOptions())


def test_options_of_those_who_speak_http_or_encrypt() -> None:
    assert {name: row[0] for name, row in named(HTTP).items()} == defaults(fastrpc.HttpOptions())
    assert {name: row[0] for name, row in named(TLS).items()} == defaults(fastrpc.TlsOptions())


def test_options_of_the_client() -> None:
    assert {name: row[0] for name, row in named(CLIENT).items()} == defaults(ClientOptions())


def test_options_of_a_cluster() -> None:
    assert {name: row[0] for name, row in named(CLUSTER).items()} == defaults(ClusterOptions())


def test_nothing_is_left_out_that_can_be_passed() -> None:
    limits, server = named(LIMITS), named(SERVER)
    client = named(CLIENT) | named(CLUSTER)
    assert set(ServerKeywords.__annotations__) == {*limits, *server}
    assert set(ConnectOptions.__annotations__) == {*limits, *client}


@pytest.mark.parametrize("name", wire.LIMIT_CEILINGS)
def test_one_past_the_ceiling_is_refused(name: str) -> None:
    most = wire.LIMIT_CEILINGS[name]
    keywords: dict[str, Any] = {name: most}
    fastrpc.Server(**keywords)
    with pytest.raises(fastrpc.ConfigError, match=f"^{name} must be above 0 and at most {most}"):
        fastrpc.Server(**{**keywords, name: most + 1})


# Past it.

Attempt = Callable[[fastrpc.Client], Awaitable[Any]]


class Service:
    def echo(self, value: Any) -> Any:
        return value

    def grow(self, size: int) -> bytes:
        return bytes(size)

    async def pause(self) -> str:
        await asyncio.sleep(0.02)
        return "done"

    async def stay(self) -> None:
        await asyncio.Event().wait()

    @fastrpc.rpc(blocking=True)
    def block(self) -> str:
        return "done"

    async def mirror(self, items: AsyncIterator[str]) -> AsyncIterator[str]:
        async for item in items:
            await asyncio.sleep(0)
            yield item


def echo(value: Any, **options: Any) -> Attempt:
    return lambda client: client.options(**options).call("Service.echo", value)


def many(method: str, count: int) -> Attempt:
    return lambda client: asyncio.gather(*[client.call(f"Service.{method}") for _ in range(count)])


async def mirrored(client: fastrpc.Client) -> list[str]:
    async def items() -> AsyncIterator[str]:
        for _ in range(20):
            yield "done"

    return [item async for item in client.stub(Service).mirror(items())]


async def first(client: fastrpc.Client) -> str:
    return (await mirrored(client))[0]


def nested(depth: int) -> Any:
    value: Any = "x" * 64  # long enough to be counted
    for _ in range(depth):
        value = [value]
    return value


# What arrives at the limit, and what does not one past it. A msgpack array of
# arguments counts as a level and an item itself.
CASES: dict[str, tuple[dict[str, Any], Attempt, Attempt, str]] = {
    "max_body": ({"max_body": 104}, echo(b"x" * 101), echo(b"x" * 102), "TooLarge"),
    "max_body of a client": (
        {},
        lambda client: client.call("Service.grow", 4096 - 3),
        lambda client: client.call("Service.grow", 4096 - 2),
        "Internal",
    ),
    "max_name": (
        {"max_name": 20},
        lambda client: client.call("Service.echo", 1),
        lambda client: client.call("Service.echo_and_more", 1),
        "MethodNotFound",
    ),
    "max_metadata": (
        {"max_metadata": 100},
        echo(1, metadata={"key": "v" * 94}),
        echo(1, metadata={"key": "v" * 95}),
        "TooLarge",
    ),
    "max_metadata_pairs": (
        {"max_metadata_pairs": 2},
        echo(1, metadata={"a": "1", "b": "2"}),
        echo(1, metadata={"a": "1", "b": "2", "c": "3"}),
        "TooLarge",
    ),
    "max_depth": ({"max_depth": 10}, echo(nested(9)), echo(nested(10)), "TooLarge"),
    "max_items": ({"max_items": 100}, echo([0] * 99), echo([0] * 100), "TooLarge"),
    "max_running": ({"max_running": 2}, many("pause", 2), many("pause", 3), "Overloaded"),
    "handler_timeout": (
        {"handler_timeout": 0.02},
        echo(1),
        lambda client: client.call("Service.stay"),
        "DeadlineExceeded",
    ),
}
# These only make calls wait, or names longer on the wire.
PATIENT: dict[str, tuple[dict[str, Any], Attempt]] = {
    "max_calls": ({"max_calls": 2}, many("pause", 5)),
    "max_calls of streams": (
        {"max_calls": 2},
        lambda client: asyncio.gather(*[client.call("Service.pause"), *map(first, [client] * 5)]),
    ),
    "window": ({"window": 50}, mirrored),
    "window of one byte": ({"window": 1}, mirrored),
    "threads": ({"threads": 1}, many("block", 3)),
    "max_methods": (
        {"max_methods": 1},
        lambda client: asyncio.gather(client.call("Service.pause"), client.call("Service.block")),
    ),
}


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("case", CASES)
async def test_at_the_limit_and_one_past_it(case: str) -> None:
    options, at, past, error = CASES[case]
    name = case.partition(" ")[0]
    assert f"`{error}`" in named(LIMITS + SERVER)[name][-1]
    mine: dict[str, Any] = {"max_body": 4096} if case.endswith("client") else {}
    async with fastrpc.Server(**options) as server:
        server.register(Service())
        await server.start("mem://limits")
        async with fastrpc.connect("mem://limits", **mine) as client:
            await client.call("Service.echo", 1)  # from now on the name is a number
            await at(client)
            with pytest.raises(getattr(fastrpc, error)):
                await past(client)


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("case", PATIENT)
async def test_past_it_calls_only_wait(case: str) -> None:
    options, attempt = PATIENT[case]
    async with fastrpc.Server(**options) as server:
        server.register(Service())
        await server.start("mem://limits")
        async with fastrpc.connect("mem://limits") as client:
            assert set(await attempt(client)) == {"done"}
