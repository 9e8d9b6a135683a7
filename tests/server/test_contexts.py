"""Which calls share a context: what docs/guide/server.md says about ContextVars."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import pytest

import fastrpc
from tests.server.serving import serving

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("both_twins")]

USER: ContextVar[str] = ContextVar("user", default="nobody")


class Users:
    """Handlers of every kind that tell who they think the user is, and then set it."""

    def sync(self, name: str) -> str:
        return self._swap(name)

    async def inline(self, name: str) -> str:
        return self._swap(name)

    async def task(self, name: str) -> str:
        before = self._swap(name)
        await asyncio.sleep(0)
        return before if USER.get() == name else "mixed up"

    @fastrpc.rpc(blocking=True)
    def thread(self, name: str) -> str:
        return self._swap(name)

    def polite(self, name: str) -> str:
        token = USER.set(name)
        try:
            return USER.get()
        finally:
            USER.reset(token)

    def look(self) -> str:
        return USER.get()

    @staticmethod
    def _swap(name: str) -> str:
        before = USER.get()
        USER.set(name)
        return before


Call = Callable[..., Awaitable[str]]


@pytest.mark.parametrize("kind", ["task", "thread"])
async def test_async_and_blocking_handlers_have_a_context_of_their_own(kind: str) -> None:
    async with serving(Users(), threads=1) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            calls = [client.call(f"Users.{kind}", name) for name in ("ann", "bob", "cid")]
            assert await asyncio.gather(*calls) == ["nobody"] * 3
            assert await client.call(f"Users.{kind}", "dan") == "nobody"
            assert await client.call("Users.look") == "nobody"


@pytest.mark.parametrize("kind", ["sync", "inline"])
async def test_handlers_in_place_share_the_one_of_their_connection(kind: str) -> None:
    async with serving(Users()) as server:
        target = server.targets[0]
        async with fastrpc.connect(target) as client, fastrpc.connect(target) as other:
            assert await client.call(f"Users.{kind}", "ann") == "nobody"
            for reader, seen in (("look", ()), ("task", ("x",)), ("thread", ("x",))):
                assert await client.call(f"Users.{reader}", *seen) == "ann"
            assert await other.call("Users.look") == "nobody"  # never that of another


async def test_who_resets_what_it_set_leaves_nothing() -> None:
    async with serving(Users()) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            assert await client.call("Users.polite", "ann") == "ann"
            assert await client.call("Users.look") == "nobody"
