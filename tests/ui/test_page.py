"""The page in a real browser, with a fleet that answers, fails and sends hostile text."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

pytest.importorskip("playwright.async_api")
pytest.importorskip("axe_playwright_python")

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, async_playwright

from tests.ui.browser import CHROMIUM, open_browser
from tests.ui.live_fleet import live_fleet, send, signed_in

VIEWS = [
    *("overview", "requests", "inspector", "usage", "keys"),
    *("routes", "switches", "logs", "doctor"),
]
WIDE, PHONE = {"width": 1360, "height": 900}, {"width": 390, "height": 780}
AXE, LOADED_AXE = Axe(), Axe("0")
"""With and without the script, which a document loads once."""
ESCAPED = "\\u202egnp.exe"
"""A part of the hostile text, in the form that the page shows."""

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.xdist_group("processes"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def live():
    # A short path, because paths of sockets are limited.
    with tempfile.TemporaryDirectory() as folder:
        async with live_fleet(Path(folder)) as running:
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    async with async_playwright() as playwright, open_browser(playwright) as opened:
        yield opened


class Watch:
    """The violations of a page."""

    def __init__(self, page, url):
        self.problems = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self._request(request.url, url))

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def _request(self, requested, url):
        if not requested.startswith(url):
            self.problems.append(f"request to {requested}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(browser, live):
    """A signed-in page; its violations are checked after the last test."""
    context = await browser.new_context(viewport=WIDE, locale="en-US")
    opened = await context.new_page()
    watch = Watch(opened, live.url)
    await signed_in(opened, live)
    opened.watch = watch
    yield opened
    await context.close()


@pytest_asyncio.fixture(loop_scope="module")
async def home(page, live):
    """The overview, without a dialog."""
    await show(page, live, "overview")
    return page


async def show(page: Page, live, view: str) -> None:
    await page.goto(f"{live.url}#/{view}")
    await page.wait_for_selector(f".side a[href='#/{view.split('/')[0]}'][aria-current]")
    await page.wait_for_selector("main h1")
    await page.wait_for_selector("main >> text=Loading… >> visible=true", state="detached")


async def violations(page: Page, *, rules: Sequence[str] = ()) -> list[str]:
    """Return axe-core's findings, for all of its rules if *rules* is empty."""
    is_loaded = await page.evaluate("typeof axe === 'object'")
    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    report = await (LOADED_AXE if is_loaded else AXE).run(page, options=options)
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}: {one['nodes'][0]['failureSummary']}"
        for one in report.response["violations"]
    ]


async def put_setting(page: Page, name: str, value: str) -> None:
    await page.evaluate("([name, value]) => localStorage.setItem(name, value)", [name, value])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
async def test_every_view_is_accessible(page, live, view, theme):
    await put_setting(page, "ccproxy.theme", theme)
    await show(page, live, view)
    await page.wait_for_selector(f"html[data-theme={theme}]")
    # Only the colors differ.
    assert await violations(page, rules=["color-contrast"] if theme == "dark" else ()) == []


@pytest.mark.parametrize("view", VIEWS)
async def test_every_view_fits_on_a_phone_and_is_translated(page, live, view):
    await page.set_viewport_size(PHONE)
    await put_setting(page, "ccproxy.language", "zh")
    try:
        await show(page, live, view)
        await page.wait_for_selector("html[lang=zh-CN]")
        width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert await page.evaluate(width) == 0
        main = "(main => main.scrollWidth - main.clientWidth)(document.querySelector('main'))"
        assert await page.evaluate(main) == 0
    finally:
        await page.set_viewport_size(WIDE)
        await put_setting(page, "ccproxy.language", "en")


async def test_the_overview_shows_the_fleet(home):
    text = await home.inner_text("main")
    for part in ("Mountain", "River", "degraded", "2 of 3 keys out", "1/3", "rate limit (429)"):
        assert part in text
    assert "next attempt in" in text
    assert "…2222" in text
    assert "river-key" not in text


async def test_a_running_request_is_shown_until_it_ends(home, live):
    held = asyncio.create_task(send(live.home, "Mountain", "think hard"))
    row = home.locator("[aria-label='Recent requests'] tr", has_text="running")
    await row.wait_for()
    assert await home.inner_text(".figures dd >> nth=0") == "1"
    held.cancel()
    await home.locator("tr", has_text="client left").wait_for()
    await row.wait_for(state="detached")


async def test_digits_open_the_views(home):
    for number, view in enumerate(VIEWS, 1):
        await home.keyboard.press(str(number))
        await home.wait_for_selector(f".side a[href='#/{view}'][aria-current]")


async def test_a_request_by_keyboard(home):
    await home.keyboard.press("2")
    await home.wait_for_selector("main input[type=search]")
    await home.keyboard.press("/")
    await home.keyboard.type("failed 400 river", delay=0)
    await home.wait_for_selector("text=No request matches.")
    await home.keyboard.press("Control+A")
    await home.keyboard.type("river")
    await home.wait_for_selector("tbody tr:has-text('River')")
    for _ in range(12):
        await home.keyboard.press("Tab")
        if await home.evaluate("document.activeElement.hasAttribute('data-row')"):
            break
    for _ in range(4):
        await home.keyboard.press("ArrowDown")
    await home.keyboard.press("Enter")
    panel = home.locator("aside")
    await panel.wait_for()
    text = await panel.inner_text()
    assert "key …2222 was refused: 429 rate limit, then another key" in text
    assert "key …3333 was refused: 401" in text
    assert "sent with key …5555, attempt 3" in text
    assert await violations(home) == []


async def test_the_inspector_shows_blocks_both_requests_and_the_answer(page, live):
    await show(page, live, "inspector")
    await page.locator("tr.link", has_text="done").first.locator("[data-row]").click()
    await page.wait_for_selector("details.block")
    blocks = await page.locator("details.block").count()
    assert blocks == 7
    await page.locator("details.block summary").last.focus()
    await page.keyboard.press("Enter")
    await page.wait_for_selector("details[open] pre")
    assert "<script>window.hit=1</script>" in await page.inner_text("details[open] pre")
    assert "18.4k" in await page.inner_text("main")
    assert await violations(page) == []
    await page.click("text=Client and provider")
    client, provider = [await one.inner_text() for one in await page.locator("pre.code").all()]
    assert '"model": "claude-sonnet-5"' in client
    assert '"model": "summit-2-pro"' in provider
    await page.get_by_role("button", name="Answer").click()
    await page.wait_for_selector("text=The tests pass now.")
    assert "longest pause" in await page.inner_text(".arrival")
    assert await violations(page) == []
    await page.get_by_role("slider").fill("0")
    await page.wait_for_selector("text=/0 of [0-9]+ events/")
    await page.click("text=Play")
    await page.wait_for_selector("text=The tests pass now.")


async def test_hostile_texts_are_texts(page, live):
    texts = {"overview": "onerror", "requests": "onerror", "logs": "onerror", "usage": "onclick"}
    for view, text in texts.items():
        await show(page, live, view)
        if view == "usage":
            await page.get_by_role("button", name="Model").click()
        await page.wait_for_selector(f"main :text('{text}')")
        markup = "main img, main script, main b[onclick], main iframe"
        assert await page.locator(markup).count() == 0
    await show(page, live, "requests")
    await page.locator("tr.link:has-text('failed') [data-row]").first.click()
    await page.wait_for_selector("aside .error")
    assert "\u202e" not in await page.inner_text("body")
    assert await page.evaluate("window.hit") is None


async def test_a_key_is_disabled_by_keyboard(page, live):
    await show(page, live, "keys")
    await page.get_by_role("button", name="Disable k2 …4444").focus()
    await page.keyboard.press("Enter")
    await page.wait_for_selector("dialog[open]")
    assert await violations(page) == []
    await page.keyboard.press("Escape")
    await page.wait_for_selector("dialog[open]", state="detached")
    await page.get_by_role("button", name="Disable k2 …4444").focus()
    await page.keyboard.press("Enter")
    await page.wait_for_selector("dialog[open]")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await page.locator("dialog button.danger").focus()
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Enable k2 …4444").wait_for()
    done = await live.home.ccproxy("keys", "Mountain", "--json")
    (proxy,) = json.loads(done.out)["proxies"]
    assert [key["state"] for key in proxy["keys"]] == ["ready", "disabled"]
    await page.get_by_role("button", name="Enable k2 …4444").click()
    await page.get_by_role("button", name="Disable k2 …4444").wait_for()


async def test_a_route_is_chosen_shown_and_written(page, live):
    table = live.home.path / "ccproxy.toml"
    before = table.read_text()
    await show(page, live, "routes")
    await page.get_by_label("background: Model").select_option("River:big")
    await page.wait_for_selector("dialog[open]")
    assert '+background = "River:big"' in await page.inner_text("dialog")
    assert table.read_text() == before
    await page.click("dialog >> text=Write to the file")
    await page.wait_for_selector("text=Written. Reload the fleet")
    after = before.replace("[routes.Mountain]\n", '[routes.Mountain]\nbackground = "River:big"\n')
    assert table.read_text() == after


async def test_a_route_is_dragged(page, live):
    await show(page, live, "routes")
    rule = page.locator("tr.rule:has-text('thinking')")
    await rule.drag_to(page.locator(".models li", has_text="summit-2-mini"))
    await page.wait_for_selector("dialog[open]")
    assert '+thinking = "summit-2-mini"' in await page.inner_text("dialog")
    await page.click("dialog >> text=Cancel")


async def test_models_are_switched_and_reset(page, live):
    await show(page, live, "switches")
    await page.get_by_label("big: Mountain").select_option("River:delta-large-2026-08-preview")
    await page.get_by_role("button", name="Apply: Mountain").click()
    await page.wait_for_selector("section[aria-label='Mountain'] :text('switched')")
    done = await live.home.ccproxy("switch", "Mountain", "--json")
    assert json.loads(done.out)["models"]["big"] == "River:delta-large-2026-08-preview"
    await page.get_by_role("button", name="Use the env file's: Mountain").click()
    await page.wait_for_selector(
        "section[aria-label='Mountain'] :text('switched')", state="detached"
    )


async def test_usage_is_plotted_and_listed(page, live):
    await show(page, live, "usage")
    await page.locator(".plot canvas").nth(3).wait_for()
    assert await page.locator(".plot canvas").count() == 4
    await page.get_by_role("button", name="Session").click()
    await page.wait_for_selector("td:has-text('session-3-river')")
    assert "crossed a price threshold" in await page.inner_text("main")
    for group, row in {"Day": "20", "Key": "…1", "Entry": "Mountain", "Model": "pilot"}.items():
        await page.get_by_role("button", name=group, exact=True).click()
        await page.wait_for_selector(f"th:has-text('{group}')")
        await page.wait_for_selector(f"tbody td:first-child:has-text('{row}')")
    assert page.watch.problems == []


async def test_a_code_works_once_and_nothing_is_shown_without_it(browser, live):
    other = await browser.new_context()
    stranger = await other.new_page()
    await stranger.goto(live.link)
    await stranger.wait_for_selector("text=this code has already been used")
    await stranger.goto("about:blank")
    await stranger.goto(f"{live.url}#/keys")
    await stranger.wait_for_selector("text=This page needs a one-time code.")
    assert "Mountain" not in await stranger.content()
    assert await violations(stranger) == []
    assert (await stranger.goto(f"{live.url}app.js")).status == 401
    await other.close()


ATTACK = """async ([url, commands]) => {
  const found = [];
  for (const path of ["", "api/fleet", "api/events", "app.js", "session"])
    for (const mode of ["cors", "no-cors"])
      try { found.push(await (await fetch(url + path, {mode, credentials: "include"})).text()) }
      catch { found.push("") }
  for (const [path, body] of commands)
    for (const type of ["text/plain", "application/json"])
      try {
        await fetch(url + path, {method: "POST", mode: type === "text/plain" ? "no-cors" : "cors",
          credentials: "include", body: JSON.stringify(body), headers: {"content-type": type}});
      } catch { }
  return found.filter(Boolean);
}"""
COMMANDS = [
    ["api/keys", {"label": "Mountain", "action": "disable", "id": "k1"}],
    ["api/entries", {"label": "Mountain", "action": "stop"}],
    ["api/toggle", {"label": "Mountain", "proxy": "off"}],
]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost"])
async def test_other_pages_in_the_same_browser_do_nothing(page, live, host):
    """This includes pages of other ports of this machine, to which the browser sends the cookie."""

    async def empty(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>other</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", empty)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    other = await page.context.new_page()
    try:
        await other.goto(f"http://{host}:{runner.addresses[0][1]}/")
        for target in (live.url, live.url.replace("127.0.0.1", "evil.example")):
            assert await other.evaluate(ATTACK, [target, COMMANDS]) == []
        await other.evaluate("url => window.open(url)", live.url)
    finally:
        for extra in page.context.pages:
            if extra is not page:
                await extra.close()
        await runner.cleanup()
    row = await live.home.proxy("Mountain")
    assert (row["state"], row["passes_to"]) == ("ready", "")
    assert [key["state"] for key in row["key_rows"]] == ["ready", "ready"]


async def test_a_rebound_name_gets_no_data(page, live):
    other = await page.context.new_page()
    answer = await other.goto(live.url.replace("127.0.0.1", "evil.example"))
    assert answer.status == 421
    await other.close()


async def test_no_script_ran_and_nothing_was_refused_or_loaded_from_elsewhere(home):
    """All views have been shown before."""
    assert home.watch.problems == []
    assert await home.evaluate("window.hit") is None
    assert await home.title() == "Overview · ccproxy"


async def test_the_page_reports_that_the_server_has_exited(home, live):
    """This is the last test, because it ends the page's process."""
    live.ui.terminate()
    await asyncio.wait_for(live.ui.wait(), 30)
    assert live.ui.returncode == 0
    await home.wait_for_selector("text=The connection to `ccproxy ui` is lost")
