"""The real Claude Code with a running fleet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.claude.driver import Claude
from tests.fleet import FleetHome
from tests.installed_client import installed_client
from tests.openai_rules import REASONING, violations

INSTALLED = "*/node_modules/@anthropic-ai/claude-code-*/claude"


@pytest.fixture(scope="session")
def claude_binary(request) -> Path:
    """$CCPROXY_CLAUDE, or the binary that `make test-claude` has installed."""
    return installed_client(request, "claude", "Claude Code", INSTALLED, ".claude-code")


@pytest.fixture
async def home(tmp_path) -> AsyncIterator[FleetHome]:
    folder = tmp_path / "fleet"
    folder.mkdir()
    async with FleetHome(folder) as home:
        yield home


@pytest.fixture
def api() -> str:
    """The API of the scripted provider for the fixture `claude`."""
    return "chat"


@pytest.fixture
async def claude(api, claude_binary, home, provider, tmp_path) -> AsyncIterator[Claude]:
    """
    Claude Code on a running proxy for the scripted provider.

    At the end, the provider must not have received anything that a strict server would reject.
    """
    home.write(
        kimi={
            "PROVIDER_API": api,
            "PROVIDER_BASE_URL": provider.url,
            "PROVIDER_API_KEY": "sk-upstream-1",
            "BIG_MODEL": "big",
            "MIDDLE_MODEL": "big",
            "SMALL_MODEL": "small",
        }
    )
    yield await on_proxy("kimi", home, claude_binary, tmp_path)
    for call in provider.calls:
        assert call.path == {"chat": "/v1/chat/completions", "responses": "/v1/responses"}[api]
        if api == "chat":
            assert violations(call.json, tolerated=REASONING) == [], f"request {call.number}"


@pytest.fixture
async def claude_direct(claude_binary, home, provider, tmp_path) -> Claude:
    """Claude Code on a proxy in direct mode, whose scripted provider serves the Messages API."""
    settings = {"PROVIDER_API": "messages", "PROVIDER_BASE_URL": provider.url}
    home.write(direct={**settings, "PROVIDER_API_KEY": "sk-upstream-1", "BIG_MODEL": "big"})
    return await on_proxy("direct", home, claude_binary, tmp_path)


@pytest.fixture
async def claude_on_demo(claude_binary, home, tmp_path) -> Claude:
    """Claude Code on the demo model."""
    home.write(demo={"PROVIDER": "demo"})
    return await on_proxy("demo", home, claude_binary, tmp_path)


async def on_proxy(label: str, home: FleetHome, binary: Path, tmp_path: Path) -> Claude:
    """Start the fleet, and return a Claude Code that uses the proxy *label*."""
    done = await home.ccproxy("start")
    assert done.code == 0, done
    folder = tmp_path / "claude"
    folder.mkdir()
    environ = {"ANTHROPIC_BASE_URL": home.url(label), "ANTHROPIC_AUTH_TOKEN": "none-needed"}
    return Claude(binary, folder, environ)
