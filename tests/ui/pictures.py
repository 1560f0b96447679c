"""
Make the pictures of the page for the docs: `python -m tests.ui.pictures docs/pictures`.

Needs Chromium. It makes every view in both themes and for a phone, or only the named views.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Page, async_playwright

from tests.fleet import FleetHome
from tests.ui.browser import open_browser
from tests.ui.live_fleet import LiveFleet, live_fleet, send, signed_in

WIDE = {"width": 1360, "height": 800}
PHONE = {"width": 390, "height": 780}
SECONDS = 45
"""Seconds of traffic before the pictures."""
SESSIONS = [f"0b9a4c1e-4a44-4c34-9e0f-5a7b1c2d3e4{number}" for number in range(3)]


async def send_mixed_traffic(home: FleetHome) -> list[asyncio.Task[None]]:
    """Send requests for a while; return those that are still running."""
    rng = random.Random(3)
    for _ in range(SECONDS):
        for label, most in {"Mountain": 4, "River": 2, "Harbour": 1}.items():
            text = "too long" if rng.random() < 0.03 else "Fix the parser, please."
            count = rng.randint(0, most)
            await send(home, label, text, session=rng.choice(SESSIONS), count=count)
        await asyncio.sleep(0.8)
    return [
        asyncio.create_task(send(home, label, "think hard", session=SESSIONS[0]))
        for label in ("Mountain", "Mountain", "River")
    ]


async def open_one(page: Page, name: str) -> None:
    """Open a request if the view shows one."""
    if name in ("requests", "inspector"):
        row = page.locator("tr.link", has_text="River" if name == "requests" else "Mountain")
        await row.filter(has_text="×3" if name == "requests" else "done").last.click()
        await page.wait_for_timeout(900)


async def show_views(page: Page, live: LiveFleet, folder: Path, only: list[str]) -> None:
    links = await page.eval_on_selector_all(".side li a", "all => all.map(link => link.hash)")
    views = {link.removeprefix("#/"): f"{live.url}{link}" for link in links}
    for theme in ("light", "dark", "phone"):
        color = "light" if theme == "light" else "dark"
        await page.evaluate(f"localStorage.setItem('ccproxy.theme', '{color}')")
        await page.set_viewport_size(PHONE if theme == "phone" else WIDE)
        for name, url in views.items():
            if only and name not in only and f"{name}-{theme}" not in only:
                continue
            await page.goto(url)
            await page.wait_for_timeout(1500)
            if theme != "phone":
                await open_one(page, name)
            await page.screenshot(path=folder / f"ui-{name}-{theme}.png")


async def make(folder: Path, only: list[str]) -> None:
    """Write the pictures into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    # A readable path, because the pictures show it.
    with tempfile.TemporaryDirectory(prefix="ccproxy-") as home:
        async with (
            live_fleet(Path(home), is_hostile=False) as live,
            async_playwright() as playwright,
            open_browser(playwright) as browser,
        ):
            held = await send_mixed_traffic(live.home)
            page = await (await browser.new_context(viewport=WIDE, locale="en-US")).new_page()
            await signed_in(page, live)
            await show_views(page, live, folder, only)
            for task in held:
                task.cancel()
            await asyncio.gather(*held, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1]), sys.argv[2:]))
