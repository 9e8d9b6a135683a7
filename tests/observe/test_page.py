"""The debug page, asked directly: its documents, its facts, who may see and who may cancel."""

import asyncio
import base64
import hashlib
import json
import logging
import re
from typing import Any

import pytest

import fastrpc
from fastrpc.observe import guard
from fastrpc.observe.guard import COOKIE, HEADER
from fastrpc.observe.page import contract, debug_page
from fastrpc.server.pages import PageRequest, PageResponse
from tests.server.serving import serving, until

TOKEN = "a-token-of-24-characters"
HOST = "127.0.0.1:7000"


class Shop:
    """A shop."""

    async def wait(self) -> None:
        """Wait."""
        await asyncio.sleep(30)

    def price(self, sku: str, amount: int = 1) -> float:
        """Return a price."""
        return 1.0 * amount


async def ask(
    server: fastrpc.Server,
    path: str = "",
    method: str = "GET",
    body: bytes = b"",
    query: dict[str, str] | None = None,
    **headers: str,
) -> PageResponse:
    named = {"host": HOST} | {name.replace("_", "-"): text for name, text in headers.items()}
    return await debug_page(
        PageRequest(
            method=method, path=path, query=query or {}, headers=named, body=body,
            peer="tcp://127.0.0.1:5", hall=server.hall, prefix="/debug/rpc",
        )
    )  # fmt: skip


def told(response: PageResponse) -> Any:
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


@pytest.fixture
def brakes(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Wrong tokens take no time, and are counted."""
    found: list[None] = []

    async def brake() -> None:
        found.append(None)

    monkeypatch.setattr(guard, "brake", brake)
    return found


@pytest.mark.asyncio
async def test_the_page_is_one_document_and_may_do_only_what_it_does() -> None:
    async with serving(Shop()) as server:
        response = await ask(server)
        assert (await ask(server, "/")).body == response.body
    assert isinstance(response.body, bytes)
    html = response.body.decode()
    assert response.status == 200
    assert len(response.body) < 62_000
    headers = dict(response.headers)
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    outside = re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)
    assert not re.search(r"\son\w+=|\sstyle=|<script |javascript:", outside)  # handlers, styles
    # Nothing comes from elsewhere: the only addresses are names of XML.
    assert set(re.findall(r"https?://[^\s'\"`)]+", html)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", html)
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Frame-Options"] == "DENY"


@pytest.mark.asyncio
async def test_facts_and_contract_are_json() -> None:
    async with serving(Shop()) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            await client.call("Shop.price", "tea", 2)
            response = await ask(server, "/facts.json")
    assert response.content_type == "application/json"
    facts = told(response)
    assert facts["methods"][0]["name"] == "Shop.price"
    assert facts["connections"][0]["calls"] == 1
    assert facts["lag"]["worst"] == [0.0]


@pytest.mark.asyncio
async def test_the_contract_tells_schemas_and_every_name_of_a_method() -> None:
    async with serving(Shop()) as server:
        server.register(Shop(), version="2", default=False)
        server.register(Shop(), name="Both", version="3", default=True)
        response = await ask(server, "/contract.json")
        assert told(response) == json.loads(json.dumps(contract(server.hall)))
    services = told(response)["services"]
    names = [[method["wire"] for method in service["methods"]] for service in services]
    assert names == [
        [["Shop.wait"], ["Shop.price"]],
        [["Shop.wait@2"], ["Shop.price@2"]],
        [["Both.wait", "Both.wait@3"], ["Both.price", "Both.price@3"]],
    ]
    price = services[0]["methods"][1]
    assert price["arguments"]["properties"]["amount"] == {"type": "integer", "default": 1}
    assert price["result"] == {"type": "number"}


@pytest.mark.asyncio
async def test_a_call_is_cancelled_by_the_page_and_by_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "fastrpc.server")
    async with serving(Shop()) as server:
        async with fastrpc.connect(server.targets[0]) as client:
            call = asyncio.ensure_future(client.call("Shop.wait"))
            await until(lambda: server.stats().running == 1)
            (shown,) = told(await ask(server, "/facts.json"))["calls"]
            body = json.dumps({key: shown[key] for key in ("connection", "number")}).encode()

            async def cancel(data: bytes = body, **headers: str) -> PageResponse:
                return await ask(server, "/cancel", "POST", data, **headers)

            own = {HEADER.replace("-", "_"): "1"}
            for headers in (
                {},
                {**own, "sec_fetch_site": "same-site"},
                {**own, "origin": "http://x"},
            ):
                assert (await cancel(**headers)).status == 403
            assert (await ask(server, "/cancel", "GET", body, **own)).status == 404
            for wrong in (b"", b"[]", b'{"connection": "x", "number": 1}', b"\xff", b"{}" * 9000):
                assert (await cancel(wrong, **own)).status == 400
            gone = b'{"connection": 99, "number": 1}'
            assert told(await cancel(gone, **own)) == {"cancelled": False}
            assert not call.done()
            assert told(await cancel(**own, sec_fetch_site="same-origin")) == {"cancelled": True}
            with pytest.raises(fastrpc.Cancelled, match="cancelled on the server's debug page"):
                await call
            assert told(await cancel(**own)) == {"cancelled": False}
    assert "cancelled on the server's debug page, by tcp://127.0.0.1:5" in caplog.text


@pytest.mark.asyncio
async def test_pages_of_other_sites_get_nothing_though_they_may_call() -> None:
    options = fastrpc.HttpOptions(origins=["https://app.example"])
    async with serving(Shop(), http=options) as server:
        for path in ("", "/facts.json", "/contract.json"):
            response = await ask(server, path, origin="https://app.example")
            assert response.status == 403
            assert (await ask(server, path, origin=f"http://{HOST}")).status == 200


@pytest.mark.asyncio
async def test_what_is_not_there() -> None:
    async with serving(Shop()) as server:
        for path, method in [("/x", "GET"), ("", "POST"), ("/facts.json", "POST"), ("//", "GET")]:
            assert (await ask(server, path, method)).status == 404


@pytest.mark.asyncio
async def test_a_token_opens_the_page_and_a_cookie_keeps_it_open(brakes: list[None]) -> None:
    async with serving(Shop(), http=fastrpc.HttpOptions(debug_token=TOKEN)) as server:
        form = await ask(server)
        assert form.status == 401
        assert b'name="token"' in form.body  # type: ignore[operator]
        assert "script-src" not in dict(form.headers)["Content-Security-Policy"]
        for path in ("/facts.json", "/contract.json", "/cancel"):
            assert (await ask(server, path)).status == 401
        assert brakes == []

        for wrong in (b"", b"token=", b"token=wrong", b"token=%ff", b"x" * 20_000):
            assert (await ask(server, "", "POST", wrong)).status == 401
        assert (await ask(server, "", query={"token": "wrong"})).status == 401
        assert (await ask(server, "/facts.json", authorization="Bearer wrong")).status == 401
        assert len(brakes) == 7

        for admitted in (
            await ask(server, "", "POST", f"token={TOKEN}".encode()),
            await ask(server, "", query={"token": TOKEN}),
        ):
            headers = dict(admitted.headers)
            assert (admitted.status, headers["Location"]) == (303, "/debug/rpc")
            cookie = headers["Set-Cookie"]
            assert TOKEN not in cookie
            assert cookie.endswith("; Path=/debug/rpc; HttpOnly; SameSite=Strict")
        shown = cookie.partition(";")[0]
        assert shown.startswith(f"{COOKIE}=")
        assert (await ask(server, cookie=shown)).status == 200
        assert (await ask(server, "/facts.json", cookie=shown)).status == 200
        assert (await ask(server, "/facts.json", authorization=f"Bearer {TOKEN}")).status == 200
    async with serving(Shop(), http=fastrpc.HttpOptions(debug_token=TOKEN)) as other:
        assert (await ask(other, cookie=shown)).status == 401


@pytest.mark.parametrize("token", ["short", "with spaces in it, long", "ümlaut-in-a-long-token", 5])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(token: Any) -> None:
    with pytest.raises(fastrpc.ConfigError, match="debug_token"):
        fastrpc.HttpOptions(debug_token=token)
    assert TOKEN not in repr(fastrpc.HttpOptions(debug_token=TOKEN))
