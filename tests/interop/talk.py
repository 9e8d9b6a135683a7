"""One conversation with a server, written down so that two of them can be compared.

python -m tests.interop.talk TARGET CODEC        prints it as JSON
"""

import asyncio
import inspect
import json
import sys
from collections.abc import Callable
from typing import Any

import uvloop

import fastrpc
from tests.client.served import Point, Work

CODECS = ("msgpack", "json", "raw", "pickle")
VALUES: dict[str, list[Any]] = {
    "json": [
        None, True, False, 0, -1, 2**31, 2**53 - 1, -(2**53) + 1, 1.5, -0.25, 1e300, "",
        "é\n\0\U0001f600",
        "x" * 40_000, [], [[[]]], {}, {"a": {"b": [1, None, "x"]}}, list(range(5000)),
    ],
    "msgpack": [b"", b"\0\xff", b"y" * 100_000, 2**64 - 1, -(2**63), {"k": b"v"}],
    "raw": [b"", b"\0\xff", b"z" * 200_000],
}  # fmt: skip
VALUES["msgpack"] += VALUES["json"]
VALUES["pickle"] = VALUES["msgpack"]


class Talk:
    """What was asked and what came of it."""

    def __init__(self, client: Any, codec: str) -> None:
        self._client = client
        self._codec = codec
        self.lines: list[str] = []

    async def note(self, name: str, act: Callable[[], Any]) -> None:
        try:
            got = act()
            if inspect.isawaitable(got):
                got = await got
            told = f"{type(got).__name__} {got!r}"
        except fastrpc.FastRPCError as exc:
            told = f"{type(exc).__name__}: {exc}" if _is_steady(exc) else type(exc).__name__
            told += f" | {exc.ran} {exc.status}"
            told += "".join(
                f" {field}={getattr(exc, field)!r}"
                for field in ("code", "data", "type", "method", "trace")
                if hasattr(exc, field)
            )
        self.lines.append(f"{name}: {told if len(told) < 500 else hash_of(told)}")

    async def hold(self) -> list[str]:
        """Say everything there is to say."""
        client, note = self._client, self.note
        for number, value in enumerate(VALUES[self._codec]):
            await note(f"echo {number}", lambda value=value: client.call("Work.echo", value))
        await note("unknown", lambda: client.call("Work.nothing", *self._bytes()))
        await note("unknown again", lambda: client.call("Work.nothing", *self._bytes()))
        await note("unencodable", lambda: client.call("Work.echo", object))
        await note("size", lambda: client.call("Work.size", b"\1" * 3_000_000))
        await note("too large", lambda: client.call("Work.size", b"\1" * 17_000_000))
        if self._codec != "raw":
            await self._hold_on()
        await note("ping", lambda: self._ping())
        return self.lines

    async def _hold_on(self) -> None:
        client, note = self._client, self.note
        stub = client.stub(Work)
        for name, act in {
            "positional": lambda: client.call("Work.add", 1, 2),
            "by name": lambda: client.call("Work.add", a=1, b=5),
            "both": lambda: client.call("Work.add", 1, b=5),
            "default": lambda: client.call("Work.add", 1),
            "missing": lambda: client.call("Work.add"),
            "too many": lambda: client.call("Work.add", 1, 2, 3),
            "unexpected": lambda: client.call("Work.add", 1, c=3),
            "twice": lambda: client.call("Work.add", 1, a=3),
            "wrong type": lambda: client.call("Work.add", "1", 2),
            "typed": lambda: stub.move(Point(1, 2), 3),
            "typed pair": lambda: stub.pair(),
            "renamed": lambda: stub.sum_of(1, 2),
            "nested wrong": lambda: client.call("Work.move", {"x": "no"}, 3),
            "raises": lambda: client.call("Work.fail", "for a reason"),
            "refuses": lambda: client.call("Work.refuse"),
            "large result": lambda: client.call("Work.blob", 2_000_000),
            "over the limit": lambda: client.call("Work.blob", 17_000_000),
            "late": lambda: client.options(timeout=0.05).call("Work.wait", "never"),
            "in time": lambda: client.options(timeout=10).call("Work.nap", 0.01),
            "in a thread": lambda: client.call("Work.pid") and None,
            "metadata": lambda: client.options(metadata={"a": "b", "c": b"\xff"}).call("Work.pair"),
            "long name": lambda: client.call("N" * 255),
            "longer name": lambda: client.call("N" * 256),
            "told": lambda: client.notify("Work.note", "once"),
            "was told": lambda: client.call("Work.note", "twice"),
        }.items():
            await note(name, act)

    def _bytes(self) -> tuple[bytes, ...]:
        return (b"",) if self._codec == "raw" else ()

    async def _ping(self) -> bool:
        took = self._client.ping()
        return bool((await took if inspect.isawaitable(took) else took) < 5.0)


def _is_steady(exc: Exception) -> bool:
    return not isinstance(exc, fastrpc.DeadlineExceeded)  # it tells milliseconds


def hash_of(text: str) -> str:
    return f"{text[:60]}... {len(text)} characters, sum {sum(map(ord, text))}"


async def talk(client: fastrpc.Client, codec: str) -> list[str]:
    """Hold the conversation from a loop; stress it afterwards."""
    lines = await Talk(client, codec).hold()
    if codec != "raw":
        calls = [client.call("Work.echo", number) for number in range(2000)]
        assert await asyncio.gather(*calls) == list(range(2000))
        cancelled = [asyncio.ensure_future(client.call("Work.wait", "x")) for _ in range(20)]
        await asyncio.sleep(0.01)
        for call in cancelled:
            call.cancel()
        await asyncio.gather(*cancelled, return_exceptions=True)
        assert await client.call("Work.echo", "still there") == "still there"
    return lines


def talk_blocking(client: fastrpc.BlockingClient, codec: str) -> list[str]:
    """Hold it without one."""
    holding = Talk(client, codec).hold()
    try:
        holding.send(None)
    except StopIteration as done:
        lines: list[str] = done.value
        return lines
    raise AssertionError("the blocking client awaits something")


def main(target: str, codec: str) -> None:
    told: dict[str, Any] = {"compiled": fastrpc.COMPILED}

    async def use() -> list[str]:
        async with fastrpc.connect(target, codec=codec, pickle=codec == "pickle") as client:
            if codec != "raw":
                told["served by compiled"] = await client.call("Work.is_compiled")
            return await talk(client, codec)

    for name, factory in (("asyncio", asyncio.new_event_loop), ("uvloop", uvloop.new_event_loop)):
        with asyncio.Runner(loop_factory=factory) as runner:
            told[name] = runner.run(use())
    with fastrpc.connect_sync(target, codec=codec, pickle=codec == "pickle") as client:
        told["blocking"] = talk_blocking(client, codec)
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
