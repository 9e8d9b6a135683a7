"""Open pages in a real browser: headless Chromium, driven by playwright-core in Node.

    seen = await browse(url, "await page.click('#go'); return await page.title();")
    assert seen.problems == []

A script is the body of an async function in JavaScript. It gets `page`, `context` (the
browser's, for further pages) and `given` (what the test passes as JSON), and what it
returns is given back as JSON. playwright's own waiting (`page.waitForSelector`,
`locator.waitFor`, ...) is all the waiting there should be.
"""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.interop.node import node_modules, run_node_json

PLAYWRIGHT = "playwright-core@1.65.1"

#: No word to anybody but this machine.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip

_DRIVER = """\
import { chromium } from "playwright-core";

const job = JSON.parse(process.env.BROWSER_JOB);
const context = await chromium.launchPersistentContext(job.profile, {
  executablePath: job.browser,
  headless: true,
  args: job.flags,
  viewport: { width: job.width, height: job.height },
  colorScheme: job.scheme,
  ignoreHTTPSErrors: true,
});
context.setDefaultTimeout(job.patience * 1000);
const problems = [];
const said = [];
const watch = (page) => {
  page.on("console", (message) => {
    said.push(`${message.type()}: ${message.text()}`);
    if (["error", "warning"].includes(message.type())) problems.push(said.at(-1));
  });
  page.on("pageerror", (error) => problems.push(`page error: ${error.stack ?? error}`));
  page.on("requestfailed", (request) => {
    const text = request.failure()?.errorText ?? "";
    if (text !== "net::ERR_ABORTED") problems.push(`request failed: ${request.url()} ${text}`);
  });
};
context.on("page", watch);
const page = context.pages()[0] ?? (await context.newPage());
watch(page);
let answer;
try {
  await page.goto(job.url);
  const act = new (async () => {}).constructor("page", "context", "given", job.script);
  answer = { value: (await act(page, context, job.given)) ?? null };
} catch (error) {
  answer = { error: String(error.stack ?? error), html: await page.content().catch(() => "") };
}
await context.close();
console.log(JSON.stringify({ ...answer, problems, said }));
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a visit.

    Attributes:
        value: What the script returned.
        problems: Errors and warnings of the console, errors of the page, requests that failed.
        said: All that the console was told.
    """

    value: Any
    problems: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


async def browse(
    url: str,
    script: str,
    given: object = None,
    *,
    width: int = 1280,
    height: int = 800,
    dark: bool = False,
    patience: float = 10.0,
) -> Seen:
    """Open *url* in a browser of its own, run *script* there, and return what was seen.

    Args:
        url: The page.
        script: Body of an async function with `page`, `context` and `given`.
        given: Anything that JSON can carry.
        width: Of the page, in pixels.
        height: Of the page.
        dark: Prefer dark colours.
        patience: Seconds that one step of the script may take.

    Raises:
        AssertionError: The script threw; with what the page looked like.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("chromium is not installed")
    folder = node_modules(PLAYWRIGHT)
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        job = {
            "url": url, "script": script, "given": given, "browser": browser, "flags": FLAGS,
            "profile": str(Path(profile) / "profile"), "width": width, "height": height,
            "scheme": "dark" if dark else "light", "patience": patience,
        }  # fmt: skip
        env = {"BROWSER_JOB": json.dumps(job), "HOME": profile, "PATH": os.environ["PATH"]}
        told = await run_node_json(_DRIVER, cwd=folder, env=env, seconds=90.0)
    assert "error" not in told, f"{told['error']}\n{told['problems']}\n{told['html'][:5000]}"
    return Seen(told["value"], told["problems"], told["said"])
