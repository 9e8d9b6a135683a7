"""Take the pictures of the debug page that the docs show.

    python -m docs.pictures          writes docs/images/debug-*.png

It needs Chromium and Node. A server with two services runs for a few seconds under some
load, and a browser looks at it: light, dark, and as narrow as a phone.
"""

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Final

import fastrpc
from tests.interop import observed
from tests.interop.browser import browse

IMAGES: Final = Path(__file__).parent / "images"

_OPEN: Final = """
  await page.locator("body[data-shown=yes]").waitFor();
  await page.waitForFunction(() => document.querySelectorAll("#t-calls tbody tr").length >= 3);
"""
_FILL: Final = """
  const place = page.getByRole("button", { name: "place", exact: true });
  await place.click();
  const detail = page.locator("tr.detail:not([hidden])");
  await detail.getByLabel("customer").fill("ann");
  await detail.getByRole("button", { name: "+ Item" }).click();
  await detail.getByLabel("sku").fill("tea");
  await detail.getByLabel("amount").fill("3");
  await detail.getByRole("button", { name: "Call", exact: true }).click();
  await detail.locator(".out").waitFor();
"""
_SHOT: Final = """
  await page.waitForTimeout(given.wait);
  await page.evaluate((wanted) => {
    document.activeElement.blur();
    document.documentElement.style.scrollBehavior = "auto";
    const seen = wanted && document.querySelector(wanted);
    window.scrollTo(0, seen ? seen.getBoundingClientRect().top + scrollY - 100 : 0);
  }, given.seen);
  await page.waitForTimeout(300);
  await page.screenshot({ path: given.path });
"""


async def main() -> None:
    """Serve, make calls, look."""
    IMAGES.mkdir(exist_ok=True)
    logging.getLogger("fastrpc.server").setLevel(logging.CRITICAL + 1)
    server, orders = observed.server()
    await server.start("tcp://127.0.0.1:0")
    target = server.targets[0]
    url = target.replace("tcp://", "http://") + "/debug/rpc"
    async with fastrpc.connect(target) as client:
        waits = [
            asyncio.ensure_future(client.call("Orders.reserve", "tea", 600.0)),
            asyncio.ensure_future(
                client.options(timeout=300.0).call("Orders.reserve", "cup", 600.0)
            ),
            asyncio.ensure_future(client.call("Orders.export", "/tmp/orders.csv")),
        ]
        load = asyncio.ensure_future(observed.traffic(target, 600.0))
        shots = [
            ("light", 1280, 900, False, "", 6000, ""),
            ("dark", 1280, 900, True, "", 6000, "#calls"),
            ("form", 1280, 960, False, _FILL, 500, "tr.group"),
            ("phone", 360, 780, False, "", 1500, "#methods"),
            ("phone-form", 360, 780, True, _FILL, 500, "tr.detail form"),
        ]
        for name, width, height, dark, script, wait, wanted in shots:
            path = IMAGES / f"debug-{name}.png"
            given = {"path": str(path), "wait": wait, "seen": wanted}
            seen = await browse(
                url, _OPEN + script + _SHOT, given, width=width, height=height, dark=dark
            )
            print(path.name, seen.problems or "no problems")
        load.cancel()
        orders.release.set()
        for wait in waits:
            wait.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(load, *waits, return_exceptions=True)
    await server.aclose(0)


if __name__ == "__main__":
    asyncio.run(main())
