"""
Make the pictures of the page for the docs: `python -m tests.ui.pictures docs/pictures`.

Needs Chromium. Every view in both themes, or only those that are named.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

from tests.ui.browser import open_browser
from tests.ui.live_fleet import live_fleet, signed_in

WIDE = {"width": 1360, "height": 860}
PHONE = {"width": 390, "height": 780}


async def make(folder: Path, only: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        async with (
            live_fleet(Path(home)) as live,
            async_playwright() as playwright,
            open_browser(playwright) as browser,
        ):
            page = await browser.new_page(viewport=WIDE)
            await signed_in(page, live)
            views = await page.eval_on_selector_all(
                ".side li a", "links => links.map(link => link.hash)"
            )
            for theme in ("light", "dark"):
                await page.evaluate(f"localStorage.setItem('ccproxy.theme', '{theme}')")
                for view in views:
                    name = view.removeprefix("#/")
                    if only and name not in only:
                        continue
                    await page.goto(f"{live.url}{view}")
                    await page.wait_for_timeout(1200)
                    if name in ("requests", "inspector"):
                        await page.locator("tr.link td:nth-child(2)").first.click()
                        await page.wait_for_timeout(800)
                    await page.screenshot(path=folder / f"ui-{name}-{theme}.png")
            if not only or "phone" in only:
                await page.set_viewport_size(PHONE)
                for view in views:
                    await page.goto(f"{live.url}{view}")
                    await page.wait_for_timeout(900)
                    await page.screenshot(path=folder / f"ui-phone-{view.removeprefix('#/')}.png")


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1]), sys.argv[2:]))
