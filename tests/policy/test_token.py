"""Tokens: who gets in, who does not, and what those who guess are told."""

import asyncio
from typing import Any

import pytest

import fastrpc
from fastrpc import policy
from fastrpc.policy import token as module
from fastrpc.policy.token import TOKEN_MAX, Tokens
from tests.policy.served import RESULTS, WAYS, Work, connected
from tests.server.serving import until

TOKENS = {"ann": "first-secret", "bob": "second-secret"}


class WhoAmI:
    def tell(self, call: fastrpc.Call = fastrpc.GIVEN) -> str:
        return str(call.state["identity"])


@pytest.mark.asyncio
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("scheme", ["mem", "tcp"])
async def test_every_kind_of_call_gets_in_with_a_token_and_none_without(
    scheme: str, way: str
) -> None:
    guard, key = policy.require_token(TOKENS), policy.bearer("first-secret")
    async with connected(scheme=scheme, server=[guard], client=[key]) as (client, work, _):
        assert await WAYS[way](client) == RESULTS[way]
        assert work.runs == [way]
    async with connected(scheme=scheme, server=[guard]) as (client, work, _):
        for _ in range(5):  # who forgot his token is no guesser
            with pytest.raises(fastrpc.Unauthenticated, match="a token is needed") as caught:
                await WAYS[way](client)
            assert (caught.value.ran, caught.value.status) == ("no", 43)
        assert not work.runs


@pytest.mark.asyncio
@pytest.mark.parametrize(("secret", "name"), [("first-secret", "ann"), ("second-secret", "bob")])
async def test_the_handler_learns_who_calls(secret: str, name: str) -> None:
    guard = policy.require_token(TOKENS)
    async with connected(server=[guard], client=[policy.bearer(secret)]) as (client, _, server):
        server.register(WhoAmI())
        assert await client.call("WhoAmI.tell") == name


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["plain", "async", "object"])
async def test_a_function_may_tell_whose_it_is(kind: str) -> None:
    asked: list[str] = []

    def plain(token: str) -> str | None:
        asked.append(token)
        return {"good": "ann"}.get(token)

    async def later(token: str) -> str | None:
        await asyncio.sleep(0)
        return plain(token)

    lookup: Any = {
        "plain": plain,
        "async": later,
        "object": lambda token: 7 if plain(token) else None,
    }[kind]
    guard = policy.require_token(lookup)
    async with connected(server=[guard], client=[policy.bearer("good")]) as (client, _, server):
        server.register(WhoAmI())
        assert await client.call("WhoAmI.tell") == ("7" if kind == "object" else "ann")
    async with connected(server=[guard], client=[policy.bearer("bad")]) as (client, _, _server):
        with pytest.raises(fastrpc.Unauthenticated, match="not valid"):
            await client.call("Work.sync", 1)
    assert asked == ["good", "bad"]


@pytest.mark.asyncio
async def test_a_function_may_be_out_of_order() -> None:
    def lookup(token: str) -> str:
        raise fastrpc.Unavailable("ask later", retry_after=1.0)

    guard = policy.require_token(lookup)
    async with connected(server=[guard], client=[policy.bearer("x")]) as (client, work, _):
        with pytest.raises(fastrpc.Unavailable, match="ask later") as caught:
            await client.call("Work.sync", 1)
        assert caught.value.ran == "no"
        assert not work.runs


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"first-secret", "must be"),
        (b"bearer", "must be"),
        (b"basic first-secret", "must be"),
        (b"bearer ", "not valid"),
        (b"bearer  first-secret", "not valid"),
        (b"bearer first-secret ", "not valid"),
        (b"bearer first-secre", "not valid"),
        (b"bearer \xff\xfe", "not valid"),
        (b"bearer " + b"x" * TOKEN_MAX, "is over"),
    ],
)
async def test_what_is_no_token(value: bytes, why: str) -> None:
    async with connected(server=[policy.require_token(TOKENS)]) as (client, work, _):
        calls = client.options(metadata={"authorization": value})
        with pytest.raises(fastrpc.Unauthenticated, match=why) as caught:
            await calls.call("Work.sync", 1)
        assert "secret" not in str(caught.value)
        assert not work.runs


@pytest.mark.asyncio
async def test_two_tokens_are_none() -> None:
    async with connected(server=[policy.require_token(TOKENS)]) as (client, _, _server):
        pairs = [("authorization", "bearer first-secret"), ("authorization", "bearer x")]
        with pytest.raises(fastrpc.Unauthenticated, match="more than one"):
            await client.options(metadata=pairs).call("Work.sync", 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("scheme", ["mem", "tcp"])
async def test_who_guesses_three_times_is_sent_away(
    scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    guard = policy.require_token(TOKENS)
    async with connected(scheme=scheme, server=[guard]) as (client, work, server):
        wrong = client.options(metadata={"authorization": "bearer wrong"})
        right = client.options(metadata={"authorization": "bearer first-secret"})
        assert await right.call("Work.sync", 1) == 2
        first = server.peers[0]
        for _ in range(2):
            with pytest.raises(fastrpc.Unauthenticated):
                await wrong.call("Work.sync", 1)
        assert await right.call("Work.sync", 1) == 2  # and this forgives nothing
        # Together, so that they are on the same connection still.
        results = await wrong.gather([("Work.sync", 1)] * 3)
        assert [type(result) for result in results] == [
            fastrpc.Unauthenticated,
            fastrpc.PermissionDenied,
            fastrpc.PermissionDenied,
        ]
        await until(lambda: not first.is_open)
        assert work.runs == ["sync"] * 2
        assert await right.call("Work.sync", 1) == 2  # on another connection
        assert first not in server.peers


@pytest.mark.asyncio
async def test_calls_under_way_hear_why_their_connection_ends() -> None:
    async with connected(server=[policy.require_token(TOKENS, max_failures=1)]) as (
        client,
        work,
        _,
    ):
        right = client.options(metadata={"authorization": "bearer first-secret"})
        waiting = asyncio.ensure_future(right.call("Work.stuck"))
        await work.entered.wait()
        with pytest.raises(fastrpc.Unauthenticated):
            await client.options(metadata={"authorization": "bearer x"}).call("Work.sync", 1)
        with pytest.raises(fastrpc.ConnectionLost, match="too many wrong tokens"):
            await waiting


@pytest.mark.asyncio
async def test_guesses_may_be_free() -> None:
    guard = policy.require_token(TOKENS, max_failures=None)
    async with connected(server=[guard], client=[policy.bearer("wrong")]) as (client, _, server):
        peers = set()
        for _ in range(6):
            with pytest.raises(fastrpc.Unauthenticated):
                await client.call("Work.sync", 1)
            peers.update(server.peers)
        assert len(peers) == 1


@pytest.mark.asyncio
async def test_another_key() -> None:
    guard = policy.require_token(TOKENS, key="x-key")
    key = policy.bearer("first-secret", key="x-key")
    async with connected(server=[guard], client=[key]) as (client, _, _server):
        assert await client.call("Work.sync", 1) == 2


@pytest.mark.asyncio
async def test_bearer_keeps_other_metadata_and_what_the_caller_says_himself() -> None:
    seen: list[list[tuple[str, bytes]]] = []

    class Seeing:
        def look(self, call: fastrpc.Call = fastrpc.GIVEN) -> None:
            seen.append(call.metadata.pairs)

    fresh = iter(["one", "two"])

    async def later() -> str:
        await asyncio.sleep(0)
        return "three"

    for token in ("fixed", lambda: next(fresh), later):
        async with connected(client=[policy.bearer(token)], metadata={"a": "1"}) as (
            client,
            _,
            server,
        ):
            server.register(Seeing())
            await client.call("Seeing.look")
    async with connected(client=[policy.bearer("mine")]) as (client, _, server):
        server.register(Seeing())
        await client.options(metadata={"authorization": "bearer other"}).call("Seeing.look")
        await client.call("Seeing.look")
    a = ("a", b"1")
    assert seen == [
        [a, ("authorization", b"bearer fixed")],
        [a, ("authorization", b"bearer one")],
        [a, ("authorization", b"bearer three")],
        [("authorization", b"bearer other")],
        [("authorization", b"bearer mine")],
    ]


# Secrets


def test_all_digests_are_compared_whosever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        lengths.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(module.hmac, "compare_digest", compare)
    tokens = Tokens({"ann": "a", "bob": "b" * 100, "cid": "c"})
    for token, name in (("a", "ann"), ("c", "cid"), ("unknown" * 50, None), ("", None)):
        lengths.clear()
        assert tokens.name_of(token) == name
        assert lengths == [(32, 32)] * 3


def test_nothing_shows_a_secret() -> None:
    tokens = Tokens(TOKENS)
    assert repr(tokens) == "<Tokens of 2 names>"
    shown = repr([policy.require_token(TOKENS), policy.bearer("first-secret"), tokens._digests])
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("tokens", "why"),
    [({}, "no tokens"), ({"ann": ""}, "'ann' is empty"), ({"a": "x", "b": b"x"}, "the same")],
)
def test_tokens_that_can_not_be(tokens: dict[str, Any], why: str) -> None:
    with pytest.raises(fastrpc.ConfigError, match=why):
        policy.require_token(tokens)


def test_options_that_make_no_sense() -> None:
    with pytest.raises(fastrpc.ConfigError, match="max_failures"):
        policy.require_token(TOKENS, max_failures=0)
    with pytest.raises(fastrpc.ConfigError, match="empty"):
        policy.bearer("")


@pytest.mark.asyncio
async def test_a_guard_at_the_wrong_side_says_so() -> None:
    async with connected(client=[policy.require_token(TOKENS)], work=Work()) as (
        client,
        _,
        _server,
    ):
        with pytest.raises(fastrpc.ConfigError, match="for servers"):
            await client.call("Work.sync", 1)


@pytest.mark.asyncio
async def test_guesses_that_come_together_are_counted_before_any_gets_in() -> None:
    looked: list[str] = []

    async def slow(token: str) -> str | None:
        looked.append(token)
        await asyncio.sleep(0)
        return "ann" if token == "right" else None

    async with connected(server=[policy.require_token(slow)]) as (client, work, _):

        def ask(token: str) -> Any:
            return client.options(metadata={"authorization": f"bearer {token}"}).call(
                "Work.sync", 1
            )

        got = await asyncio.gather(
            *[ask(f"wrong {number}") for number in range(10)], ask("right"), return_exceptions=True
        )
        assert all(isinstance(each, Exception) for each in got)
        assert not work.runs
