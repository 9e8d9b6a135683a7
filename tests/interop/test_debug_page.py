"""The debug page in a real browser: it loads, lives, calls, and cancels."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import fastrpc
from tests.interop import observed
from tests.interop.browser import Seen, browse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

#: What all scripts begin with.
BEGIN = """
  await page.locator("body[data-shown=yes]").waitFor();
  const named = (name) => page.getByRole("button", { name, exact: true });
  const row = (name) => page.locator("tr.m", { has: named(name) });
  const open = async (name) => {
    await named(name).click();
    return page.locator(`[id="${await named(name).getAttribute("aria-controls")}"]`);
  };
  const answered = async (detail, word) => {
    await detail.locator(".out .pill").filter({ hasText: word }).waitFor();
    return detail.locator(".out").innerText();
  };
  const send = (detail) => detail.getByRole("button", { name: "Call", exact: true }).click();
"""


class Served:
    """A server, its client, and a browser at its debug page."""

    def __init__(self, server: fastrpc.Server, client: fastrpc.Client) -> None:
        self.server = server
        self.client = client

    async def look(self, script: str, query: str = "", **options: object) -> Seen:
        url = self.server.targets[0].replace("tcp://", "http://")
        return await browse(f"{url}/debug/rpc{query}", BEGIN + script, **options)  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def served(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Served]:
    caplog.set_level(logging.CRITICAL, "fastrpc.server")
    server, orders = observed.server()
    await server.start("tcp://127.0.0.1:0")
    try:
        async with fastrpc.connect(server.targets[0]) as client:
            yield Served(server, client)
    finally:
        orders.release.set()
        await server.aclose(0)


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_it_shows_a_call_made_elsewhere_at_the_second_look_at_the_latest(
    served: Served,
) -> None:
    seen = await served.look("""
      const cell = row("count").locator("td").first();
      const before = await cell.innerText();
      let looks = 0;
      page.on("request", (request) => { looks += request.url().endsWith("/facts.json"); });
      const elsewhere = await context.request.post(new URL("/rpc/Stock.count", page.url()).href, {
        data: ["tea"] });
      const at = looks, began = Date.now();
      await page.waitForFunction((had) => [...document.querySelectorAll("tr.m")].some(
        (tr) => tr.querySelector(".name").innerText === "count" && tr.cells[1].innerText !== had),
        before);
      return { before, after: await cell.innerText(), status: elsewhere.status(),
               looks: looks - at, took: Date.now() - began,
               about: await page.locator("#about").innerText() };
    """)
    assert seen.problems == []
    told = seen.value
    assert (told["before"], told["after"], told["status"]) == ("0", "1", 200)
    assert told["looks"] <= 2  # one a second
    assert served.server.targets[0] in told["about"]


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_form_calls_its_method_and_shows_results_and_errors(served: Served) -> None:
    seen = await served.look("""
      const place = await open("place"), said = {};
      await send(place);  // an empty list of items is fine, a missing number is not
      said.empty = await answered(place, "ok");
      await place.getByLabel("customer").fill('ann "☃"');
      await place.getByRole("button", { name: "+ Item" }).click();
      await place.getByLabel("sku").fill("tea");
      await place.getByLabel("amount").fill("three");
      await send(place);
      said.wrong = await answered(place, "not sent");
      await place.getByLabel("amount").fill("90071992547409931");  // more digits than a double has
      await place.getByLabel("size").selectOption({ label: "large" });
      await place.locator("[data-name=ship_to]").getByRole("button", { name: "set" }).click();
      await place.getByLabel("street").fill("Main");
      await place.getByLabel("city").fill("Lund");
      await place.getByLabel("priority").selectOption("express");
      await place.getByRole("button", { name: "as JSON" }).click();
      said.json = await place.getByLabel("Arguments as JSON").inputValue();
      await send(place);
      said.result = await answered(place, "ok");
      await place.getByLabel("Arguments as JSON").fill('{"order": 5}');
      await send(place);
      said.refused = await answered(place, "bad_request");
      await place.getByLabel("Arguments as JSON").fill("{");
      await send(place);
      said.broken = await answered(place, "not sent");

      const price = await open("price");
      await send(price);
      said.raised = await answered(price, "server_error");
      const move = await open("move");
      await move.getByLabel("sku").fill("tea");
      await move.getByLabel("amount").fill("0");
      await send(move);
      said.application = await answered(move, "application");
      return said;
    """)
    told = seen.value
    # Answers that are no success are told in the console by the browser itself.
    assert all("Failed to load resource" in each for each in seen.problems), seen.problems
    assert len(seen.problems) == 3
    assert '"number": 1000' in told["empty"]
    assert "no whole number" in told["wrong"]
    assert '"customer": "ann \\"☃\\""' in told["json"]
    assert '"amount": 90071992547409931' in told["json"]
    assert '"country"' not in told["json"]  # left out: it has a default
    assert "90071992547409931 x tea (large)" in told["result"]
    assert "it was not run" in told["refused"]
    assert "order" in told["refused"]
    assert "no JSON" in told["broken"]
    assert "an article has a name" in told["raised"]
    assert "can't move 0 of tea" in told["application"]


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_streams_give_items_and_take_them(served: Served) -> None:
    seen = await served.look("""
      const follow = await open("follow"), said = {};
      await follow.getByLabel("number").fill("7");
      await follow.getByLabel("steps").fill("3");
      await send(follow);
      said.three = await answered(follow, "3 items");
      await follow.getByLabel("steps").fill("100000");
      await send(follow);
      said.many = await answered(follow, "the first 100 items");
      const total = await open("total");
      await total.getByLabel("items").fill("1\\n2.5\\n3");
      await send(total);
      said.total = await answered(total, "ok");
      return said;
    """)
    assert seen.problems == []
    assert '"order 7: step 3 of 3"' in seen.value["three"]
    assert "step 100 of" in seen.value["many"]
    assert "6.5" in seen.value["total"]
    # Who has seen enough hangs up, and the handler is stopped.
    while served.server.stats().running:
        await asyncio.sleep(0.01)


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_call_in_flight_shows_where_it_waits_and_is_cancelled(served: Served) -> None:
    call = asyncio.ensure_future(
        served.client.options(timeout=300.0).call("Orders.reserve", "tea", 600.0)
    )
    seen = await served.look("""
      const line = page.locator("#t-calls tbody tr").filter({ hasText: "Orders.reserve" });
      await line.getByText("_hold").waitFor();
      const shown = await line.innerText();
      await line.getByRole("button", { name: "Cancel" }).click();
      await page.locator("#no-calls:not([hidden])").waitFor();
      return { shown, said: await page.locator("#said").innerText() };
    """)
    assert seen.problems == []
    shown = seen.value["shown"]
    assert "observed.py" in shown
    assert "asyncio/tasks.py" in shown
    assert " min " in shown  # of the deadline
    assert seen.value["said"] == "Orders.reserve was cancelled"
    with pytest.raises(fastrpc.Cancelled, match="cancelled on the server's debug page"):
        await call


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_nothing_is_wider_than_a_phone_and_all_can_be_done_by_keyboard(
    served: Served,
) -> None:
    seen = await served.look(
        """
      await page.keyboard.press("/");
      await page.keyboard.type("price");
      await page.waitForFunction(() => [...document.querySelectorAll("tr.m")]
        .filter((tr) => !tr.hidden).length === 1);
      await page.keyboard.press("Tab");  // called only
      await page.keyboard.press("Tab");  // the method
      await page.keyboard.press("Enter");
      await page.locator("tr.detail:not([hidden])").waitFor();
      await page.keyboard.press("Tab");
      await page.keyboard.type("tea");
      const outline = await page.evaluate(
        () => getComputedStyle(document.activeElement).outlineStyle);
      for (let i = 0; i < 9; i++) {
        await page.keyboard.press("Tab");
        if (await page.evaluate(() => document.activeElement.className === "go")) break;
      }
      await page.keyboard.press("Enter");
      await page.locator(".out .pill.good").waitFor();
      return { outline, cut: await page.evaluate(() => {
                 const edge = document.querySelector(".sheet").getBoundingClientRect().right;
                 return [...document.querySelectorAll(".detail input, .detail textarea, .out, .m td")]
                   .filter((el) => el.getBoundingClientRect().right > edge).map((el) => el.outerHTML);
               }), wide: await page.evaluate(() => document.documentElement.scrollWidth),
               unnamed: await page.evaluate(() => [...document.querySelectorAll(
                 "button,input:not([type=checkbox]),select,textarea")].filter((el) => !el.closest(
                 "[hidden]") && !(el.textContent.trim() || el.labels?.length ||
                 el.getAttribute("aria-label"))).map((el) => el.outerHTML)) };
    """,
        width=360,
        dark=True,
    )
    assert seen.problems == []
    assert seen.value["outline"] == "solid"
    assert seen.value["wide"] <= 360
    assert seen.value["unnamed"] == []
    assert seen.value["cut"] == []


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_the_theme_can_be_chosen_and_looking_be_paused(served: Served) -> None:
    seen = await served.look(
        """
      const colour = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const colours = [await colour()];
      for (let i = 0; i < 3; i++) {
        await page.locator("#theme").click();
        colours.push(await colour());
      }
      await page.locator("#pause").click();
      return { colours, pressed: await page.locator("#pause").getAttribute("aria-pressed") };
    """,
        dark=True,
    )
    assert seen.problems == []
    dark, light, chosen, auto = seen.value["colours"]
    assert dark == chosen == auto != light
    assert seen.value["pressed"] == "true"


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_token_is_asked_for_once() -> None:
    token = "a-token-of-24-characters"
    server = fastrpc.Server(http=fastrpc.HttpOptions(debug_token=token))
    server.register(observed.Stock())
    await server.start("tcp://127.0.0.1:0")
    async with server:
        url = server.targets[0].replace("tcp://", "http://") + "/debug/rpc"
        script = """
          await page.getByLabel("Token").fill(given);
          await page.keyboard.press("Enter");
          await page.locator("body[data-shown=yes]").waitFor();
          const first = page.url();
          await page.reload();
          await page.locator("body[data-shown=yes]").waitFor();
          return [first, page.url(), await page.evaluate(() => document.cookie)];
        """
        seen = await browse(url, script, token)
        assert len(seen.problems) == 1  # the browser tells of the 401
        assert seen.value == [url, url, ""]
