"""The approval page in a real browser, which has rules that a scripted one lacks."""

from __future__ import annotations

import shutil
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from playwright.async_api import Page, async_playwright

from tests.worker.gateway.oidc_provider import OidcProvider
from tests.worker.gateway.team import ANNA, begin, poll, write_users

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.xdist_group("processes"),
]
PATIENCE = 120_000
"""The limit for actions of the browser in milliseconds, on a busy machine."""


@pytest.fixture
async def page():
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE
        )
        page = await browser.new_page()
        page.set_default_timeout(PATIENCE)
        yield page
        await browser.close()


async def approved(page: Page, gateway, started) -> str:
    """Wait for the last page; return the user of the session."""
    await page.wait_for_selector("text=Return to Claude Code")
    _, body = await poll(gateway, started["device_code"])
    return str(body["email"])


async def test_a_token_approves(start, tmp_path, page):
    file = tmp_path / "users.toml"
    write_users(file)
    gateway = await start(USERS=str(file))
    started = await begin(gateway)
    await page.goto(started["verification_uri_complete"])
    await page.fill("input[name=token]", ANNA)
    await page.press("input[name=token]", "Enter")
    assert await approved(page, gateway, started) == "anna"


async def test_an_identity_provider_approves(start, tmp_path, page):
    file = tmp_path / "users.toml"
    file.write_text('[[user]]\nname = "anna"\nemail = "anna@example.com"\noidc = true\n')
    async with OidcProvider() as identity:

        async def authorize(request: web.Request) -> web.Response:
            back = identity.sign_in(f"{identity.url}{request.path_qs}")
            query = f"code={back['code']}&state={back['state']}"
            raise web.HTTPFound(f"{request.query['redirect_uri']}?{query}")

        identity.pages["/authorize"] = authorize
        gateway = await start(USERS=str(file), **identity.settings())
        started = await begin(gateway)
        await page.goto(started["verification_uri_complete"])
        await page.click("button[value=oidc]")
        await page.wait_for_selector("text=You are signed in as anna@example.com")
        assert urlsplit(page.url).path == "/device/oidc"
        await page.click("button[value=approve]")
        assert await approved(page, gateway, started) == "anna@example.com"
