"""A gateway for tests, with known tokens, and a scripted browser for the approval page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from ccproxy.config.team.users import hash_token
from tests.worker.proxy import Proxy

ANNA, BOB = "ccu_anna_0123456789abcdef", "ccu_bob_0123456789abcdef"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


def write_users(file: Path, anna: str = "", bob: str = "", roles: str = "") -> None:
    """Write users.toml with two users and additional lines for each."""
    rows = [
        f'[[user]]\nname = "{name}"\ntokens = ["{hash_token(token)}"]\n{more}\n'
        for name, token, more in (("anna", ANNA, anna), ("bob", BOB, bob))
    ]
    file.write_text(f"{roles}\n{''.join(rows)}")


def bearer(token: str) -> dict[str, str]:
    """Return the headers of a client with *token*."""
    return {"Authorization": f"Bearer {token}"}


async def form(proxy: Proxy, path: str, **fields: str) -> tuple[int, dict[str, Any]]:
    """Post a form like Claude Code; return status and body."""
    async with proxy.session.post(proxy.url + path, data=fields) as got:
        return got.status, await got.json()


async def begin(proxy: Proxy) -> dict[str, Any]:
    """Start a sign-in."""
    status, body = await form(proxy, "/oauth/device_authorization", surface="claude_code")
    assert status == 200
    return body


async def poll(proxy: Proxy, device_code: str) -> tuple[int, dict[str, Any]]:
    """Request the tokens of a sign-in."""
    return await form(proxy, "/oauth/token", grant_type=DEVICE_GRANT, device_code=device_code)


class Browser:
    """A user's browser on the approval page, with its cookies and headers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.hidden = ""

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def open(self, link: str) -> str:
        """Open the page and return its text."""
        async with self.session.get(link, headers={"Sec-Fetch-Site": "cross-site"}) as got:
            text = await got.text()
        assert got.status == 200
        self.read(text)
        return text

    async def send(
        self, headers: Mapping[str, str] | None = None, **fields: str
    ) -> tuple[int, str]:
        """Send the form."""
        own = {"Origin": self.url, "Sec-Fetch-Site": "same-origin"}
        data = {"form": self.hidden, "action": "approve", **fields}
        async with self.session.post(
            f"{self.url}/device", data=data, headers={**own, **(headers or {})}
        ) as got:
            text = await got.text()
        self.read(text)
        return got.status, text

    def read(self, page: str) -> None:
        """Store the hidden field of *page*, if it has a form."""
        self.hidden = "".join(re.findall(r'name="form" value="([^"]*)"', page))


async def approve(proxy: Proxy, started: Mapping[str, Any], token: str) -> None:
    """Approve a sign-in as a user with *token*."""
    async with Browser(proxy.url) as browser:
        await browser.open(started["verification_uri_complete"])
        status, text = await browser.send(user_code=started["user_code"], token=token)
        assert status == 200, text


async def sign_in(proxy: Proxy, token: str = ANNA) -> dict[str, Any]:
    """Sign in and return the tokens."""
    started = await begin(proxy)
    await approve(proxy, started, token)
    status, tokens = await poll(proxy, started["device_code"])
    assert status == 200
    return tokens
