"""Claude Code signs in to a team's gateway, gets its settings, spends its budget and is revoked."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from tests.claude.driver import Claude
from tests.claude.screen import ENTER, Screen, skip_first_questions
from tests.fleet import eventually
from tests.provider import completion
from tests.worker.gateway.team import ANNA, Browser, write_users
from tests.worker.proxy import Proxy, running

pytestmark = pytest.mark.claude

UP = "\x1b[A"
RIGHTS = 'email = "anna@example.com"\nbudgets = ["4 USD/day"]\nsettings = "anna.json"'


@pytest.fixture
async def gateway(provider, tmp_path):
    """A gateway on which every answer costs 1.60 USD."""
    write_users(tmp_path / "users.toml", anna=RIGHTS)
    (tmp_path / "anna.json").write_text(json.dumps({"model": "gpt-4o"}))
    usage = {"prompt_tokens": 1600, "completion_tokens": 0}
    provider.script(completion("Hello there", usage=usage))
    users = str(tmp_path / "users.toml")
    prices = "gpt-4o=1000/1000,gpt-4o-mini=0/0"
    async with running(tmp_path, provider.url, USERS=users, PRICES=prices) as proxy:
        yield proxy


def start(binary: Path, gateway: Proxy, folder: Path) -> Screen:
    """Start Claude Code on a machine with the gateway in its settings."""
    claude = Claude(binary, folder, {})
    environ = claude.environment(BROWSER="/bin/true")
    # If it is set, the client shows no limits.
    del environ["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"]
    skip_first_questions(folder, claude.cwd)
    settings = {"forceLoginMethod": "gateway", "forceLoginGatewayUrl": gateway.url}
    (folder / ".claude").mkdir()
    (folder / ".claude/settings.json").write_text(json.dumps(settings))
    return Screen([str(binary)], claude.cwd, environ)


async def test_from_sign_in_to_revocation(claude_binary, gateway, provider, tmp_path):
    folder = tmp_path / "claude"
    folder.mkdir()
    screen = start(claude_binary, gateway, folder)

    async def wait_for(*texts: str) -> str:
        return await asyncio.to_thread(screen.wait_for, *texts)

    async def press(*keys: str) -> None:
        await asyncio.to_thread(screen.press, *keys)

    def answers() -> int:
        lines = gateway.lines("audit.request")
        return sum(line["model"] == "gpt-4o" and line["status"] == 200 for line in lines)

    async def ask(text: str, expected: str, *, answered: int) -> None:
        await press(*text)
        await press(ENTER)
        await wait_for(expected)
        await eventually(lambda: answers() == answered)

    try:
        await wait_for("run /login")
        await press("/login", ENTER)
        await wait_for("Enter to connect")
        await press(ENTER)
        await wait_for("Trust gateway 127.0.0.1?")
        await press(UP, ENTER)
        text = await wait_for("Code:  ")
        code = re.findall(r"Code:  ([B-Z]{4}-[B-Z]{4})", text)[0]
        async with Browser(gateway.url) as browser:
            await browser.open(f"{gateway.url}/device?user_code={code}")
            assert (await browser.send(user_code=code, token=ANNA))[0] == 200
        await wait_for("Signed in to Cloud gateway as anna@example.com")
        await press(UP, ENTER)
        await wait_for("Connected to Cloud gateway")
        await press(ENTER)
        await wait_for("Using gpt-4o (from managed settings)")
        await ask("first", "Hello there", answered=1)
        await ask("second", "❯ second", answered=2)
        # The headers of an answer are sent before its cost is known.
        await ask("third", "You've used 80% of your usage credits", answered=3)
        spent = "The budget of anna at this gateway is spent: 4.80 USD of 4 USD"
        await ask("fourth", spent, answered=3)
        (tmp_path / "users.toml").write_text('[[user]]\nname = "anna"\ntokens = []\n')
        await ask("fifth", "the token was revoked or has expired", answered=3)
    finally:
        screen.close()
    assert all(ANNA not in str(dict(call.headers)) for call in provider.calls)
