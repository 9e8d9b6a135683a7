"""Views of a client keep its options, but for the one that is changed."""

from typing import Any

import pytest

import fastrpc
from fastrpc.cluster import MemoryRegistry, MemoryStore
from fastrpc.cluster.client import connect_registry
from tests.client.served import serving


def clients() -> list[fastrpc.Client]:
    """Return a client of one server, and one of a cluster."""
    options: Any = {"timeout": 2.0, "metadata": {"a": "b"}}
    return [
        fastrpc.connect("mem://nowhere", **options),
        connect_registry(MemoryRegistry(MemoryStore()), "Work", **options),
    ]


def told(view: Any) -> tuple[Any, float, bytes]:
    return view._mode, view._caller.timeout, view._caller.metadata


def test_an_option_that_is_not_given_stays() -> None:
    for client in clients():
        packed = told(client)[2]
        assert told(client) == ("one", 2.0, packed)
        most = client.options(broadcast="quorum")
        assert told(most) == ("quorum", 2.0, packed)
        assert told(most.options(timeout=None)) == ("quorum", 0.0, packed)
        assert told(most.options(metadata=None)) == ("quorum", 2.0, b"")
        assert told(most.options(key="k", idempotent=True)) == ("quorum", 2.0, packed)
        assert told(most.options(broadcast=3).options(broadcast="one")) == ("one", 2.0, packed)
        assert told(client) == ("one", 2.0, packed)


def test_options_that_make_no_sense() -> None:
    for client in clients():
        with pytest.raises(fastrpc.ConfigError, match="broadcast must be"):
            client.options(broadcast="most")  # type: ignore[arg-type]
        with pytest.raises(fastrpc.ConfigError, match="timeout must be"):
            client.options(timeout=-1.0)
        with pytest.raises(fastrpc.InvalidArgument):
            client.options(metadata={"A": "upper case"})


@pytest.mark.asyncio
async def test_timeout_and_metadata_are_those_of_the_view() -> None:
    def who(call: fastrpc.Call = fastrpc.GIVEN) -> list[Any]:
        return [call.metadata.text("user"), call.deadline > 0]

    async with serving() as (server, _), fastrpc.connect(server.targets[0]) as client:
        server.register(who)
        view = client.options(metadata={"user": "ann"}, timeout=5.0)
        assert await view.broadcast("who") == ["ann", True]
        assert await client.broadcast("who") == ["", False]
        both = client.options(metadata={"user": "bob"}).options(broadcast="all")
        assert await both.broadcast("who") == {server.targets[0]: ["bob", False]}
