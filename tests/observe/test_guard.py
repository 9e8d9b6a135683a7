"""Who may see the debug page, and who may do something there."""

from typing import Any

import pytest

from fastrpc.observe import guard
from fastrpc.observe.guard import COOKIE, HEADER, Guard, is_foreign, is_own
from fastrpc.server.pages import PageRequest

TOKEN = "a-token-of-24-characters"


def asked(**headers: str) -> PageRequest:
    named: dict[str, str] = {"host": "127.0.0.1:7000"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    nobody: Any = None
    return PageRequest(
        method="GET", path="", query={}, headers=named, body=b"", peer="tcp://x:1", hall=nobody
    )


def test_without_a_token_all_are_let_in() -> None:
    keeper = Guard("")
    assert not keeper.is_set
    assert keeper.lets_in({})
    assert not keeper.knows("")


def test_a_token_may_come_as_bearer_or_stand_in_a_cookie() -> None:
    keeper = Guard(TOKEN)
    assert keeper.lets_in({"authorization": f"Bearer {TOKEN}"})
    assert keeper.lets_in({"authorization": f"bearer  {TOKEN} "})
    assert keeper.lets_in({"cookie": f"other=1; {COOKIE}={keeper.cookie}"})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer "},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Basic {TOKEN}"},
        {"cookie": f"{COOKIE}={TOKEN}"},  # the cookie is no token
        {"cookie": f"{COOKIE}="},
        {"cookie": "\x00=;;;==\xff"},
        {"authorization": "Bearer wrong-token-of-24-characters", "cookie": "right"},
    ],
)
def test_nothing_else_is_let_in(headers: dict[str, str]) -> None:
    keeper = Guard(TOKEN)
    if headers.get("cookie") == "right":
        headers = headers | {"cookie": f"{COOKIE}={keeper.cookie}"}
    assert not keeper.lets_in(headers)


def test_a_cookie_holds_for_one_server_only() -> None:
    assert Guard(TOKEN).cookie != Guard(TOKEN).cookie


def test_the_token_is_not_kept() -> None:
    keeper = Guard(TOKEN)
    kept = repr([getattr(keeper, name) for name in Guard.__slots__])
    assert TOKEN not in kept


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({}, False),
        ({"origin": "http://127.0.0.1:7000"}, False),
        ({"origin": "https://evil.example"}, True),
        ({"origin": "http://127.0.0.1:7001"}, True),
        ({"origin": "null"}, True),
        ({"sec_fetch_site": "same-origin"}, False),
        ({"sec_fetch_site": "none"}, False),
        ({"sec_fetch_site": "cross-site"}, True),
        ({"sec_fetch_site": "same-site"}, True),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, False),
    ],
)
def test_pages_of_other_sites_are_foreign(headers: dict[str, str], foreign: bool) -> None:
    assert is_foreign(asked(**headers)) is foreign


def test_only_the_page_itself_may_do_something() -> None:
    mine = {HEADER: "1"}
    assert is_own(asked(**mine))
    assert is_own(asked(**mine, sec_fetch_site="same-origin", origin="http://127.0.0.1:7000"))
    assert not is_own(asked())
    assert not is_own(asked(origin="http://127.0.0.1:7000"))
    assert not is_own(asked(**mine, origin="https://evil.example"))
    assert not is_own(asked(**mine, sec_fetch_site="cross-site", sec_fetch_mode="navigate"))
    assert not is_own(asked(**mine, sec_fetch_site="none"))


@pytest.mark.asyncio
async def test_guessing_takes_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(guard.asyncio, "sleep", sleep)
    await guard.brake()
    assert waited == [guard.BRAKE]
