"""A page in a real browser calls, streams and is called, by the JavaScript client."""

import asyncio
import os
from collections.abc import Iterator

import pytest

import fastrpc
from tests.interop.browser import browse
from tests.interop.node import js_client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    js_client()


class Screen:
    """A member who is no browser, and answers once."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.spoken = asyncio.Event()

    def show(self, author: str, line: str) -> None:
        self.lines.append(f"{author}: {line}")
        if author == "ann":
            self.spoken.set()


VISIT = """
  const text = (selector) => page.locator(selector).innerText();
  const until = (selector, text) => page.locator(selector).filter({ hasText: text }).first().waitFor();
  const seen = {};
  await until("#state", "open");

  await page.fill("#name", "ann");
  await page.click("#join button");
  await until("#lines", "here are ann");
  await page.fill("#line", "hello ☃");
  await page.press("#line", "Enter");
  await until("#lines", "hello back, ann");
  seen.lines = await page.locator("#lines li").allInnerTexts();

  await page.click("#find button");
  await until("#characters", "SNOWMAN");
  seen.found = await text("#found");
  seen.first = await page.locator("#characters li").first().innerText();
  await page.fill("#words", "x*");
  await page.click("#find button");
  await until("#characters", "at least");
  seen.refused = await page.locator("#characters .bad").innerText();

  await page.click("#start");
  await page.waitForFunction(() => parseInt(document.querySelector("#passed").textContent) >= 3);
  await page.click("#stop");
  await page.locator("#stop[disabled]").waitFor();
  seen.stage = await text("#stage");
  if (given.shot) await page.screenshot({ path: given.shot });
  return seen;
"""


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the module path as it was: the example puts its neighbours on it."""
    import sys

    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    for name in ("chat", "unicode_service"):
        sys.modules.pop(name, None)


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_the_example_in_a_browser(examples: None) -> None:
    from examples.browser.server import Parade, make_server, serving

    parade = Parade()
    server = make_server(parade, ("*",))
    screen = Screen()
    async with serving(server) as page:
        bob = fastrpc.connect(server.targets[0], timeout=10.0)
        bob.register(screen)
        async with bob:
            await bob.call("Room.join", "bob")

            async def answer() -> None:
                await screen.spoken.wait()
                await bob.call("Room.say", "hello back, ann")

            answering = asyncio.create_task(answer())
            seen = await browse(page, VISIT, {"shot": os.environ.get("FASTRPC_SHOT", "")})
            await answering
            async with asyncio.timeout(10):
                await parade.still.wait()
    assert seen.problems == []
    first, *others = seen.value["lines"]
    assert first == "here are ann, bob"
    # The push may come before the reply of the call that led to it.
    assert sorted(others) == ["ann hello ☃ told 1", "bob hello back, ann"]
    assert screen.lines[:2] == ["room: ann came", "ann: hello ☃"]
    assert seen.value["found"].endswith(" found")
    assert "SNOWMAN" in seen.value["first"]
    assert "U+2603, e2 98 83" in seen.value["first"]
    assert seen.value["refused"] == "at least 2 letters before the *, got 'X*' [4]"
    assert seen.value["stage"].startswith("♔♕♖")
    assert parade.marching == 0


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_a_page_of_another_site_is_refused(examples: None) -> None:
    from examples.browser.server import Parade, make_server, serving

    server = make_server(Parade(), ("https://elsewhere.example.com",))
    async with serving(server) as page:
        seen = await browse(page, "return page.locator('#lines .bad').first().innerText();")
    assert "the connection could not be made" in seen.value
    assert any("WebSocket connection" in problem for problem in seen.problems)
