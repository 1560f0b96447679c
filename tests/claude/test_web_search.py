"""WebSearch of the real Claude Code: with an engine, with providers' own searches, and without."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.claude.conftest import on_proxy
from tests.claude.driver import Claude
from tests.provider import completion, raw, tool_call
from tests.search_engine import HITS, OWN_SEARCHES, SearchEngine, own_key

pytestmark = pytest.mark.claude

SEARCH = tool_call("WebSearch", {"query": "aiohttp release"})
LINKS = {"url": HITS[0]["url"], "title": "First"}


def session_of(provider):
    """Script a session in which the model searches once and answers; the search finds a page."""

    def answer(call):
        text = call.body.decode()
        if "aiohttp release" in text and "WebSearch" not in text:
            key = call.key or call.headers["x-goog-api-key"]
            (found,) = (each for name, each in OWN_SEARCHES.items() if own_key(name) == key)
            return raw(json.dumps(found[1]))
        has_result = "Web search results for query" in text or "Web search error" in text
        return completion("Done.") if has_result else completion(tool_calls=[SEARCH])

    provider.script(answer)


async def run(claude):
    session = await claude.run("search", ENABLE_TOOL_SEARCH="false")
    (result,) = session.tool_results.values()
    return session, result


async def started(home, provider, binary, tmp_path, **settings):
    shared = {"PROVIDER_BASE_URL": provider.url, "PROVIDER_API_KEY": "sk-upstream-1"}
    home.write(search={**shared, "BIG_MODEL": "big", "SMALL_MODEL": "small", **settings})
    return await on_proxy("search", home, binary, tmp_path)


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
async def test_a_named_engine(claude_binary, home, provider, tmp_path, api):
    session_of(provider)
    async with SearchEngine() as engine:
        setting = f"searxng:{engine.url}"
        claude = await started(
            home, provider, claude_binary, tmp_path, PROVIDER_API=api, WEB_SEARCH=setting
        )
        session, result = await run(claude)
    session.expect("Done.")
    assert HITS[0]["url"] in result
    assert "The answer is 42." in result
    assert len(engine.calls) == 1


async def test_every_provider_s_own_search(claude_binary, home, provider, tmp_path):
    """One fleet has an entry for each provider; the key identifies the entry."""
    session_of(provider)
    home.write(**{
        preset: {
            "PROVIDER": preset, "PROVIDER_API": "chat", "PROVIDER_BASE_URL": provider.url,
            "PROVIDER_API_KEY": own_key(preset), "BIG_MODEL": "gpt-oss", "SMALL_MODEL": "gpt-oss",
        }
        for preset in OWN_SEARCHES
    })  # fmt: skip
    done = await home.ccproxy("start")
    assert done.code == 0, done
    turn = asyncio.Semaphore(2)

    async def search(preset):
        folder = tmp_path / preset
        folder.mkdir()
        environ = {"ANTHROPIC_BASE_URL": home.url(preset), "ANTHROPIC_AUTH_TOKEN": "none-needed"}
        async with turn:
            session, result = await run(Claude(claude_binary, folder, environ))
        session.expect("Done.")
        assert "https://a.example/1" in result, preset
        assert "It is 42." in result, preset

    await asyncio.gather(*map(search, OWN_SEARCHES))
    paths = {call.path for call in provider.calls}
    assert {path.replace("own-model", "gpt-oss") for path, _ in OWN_SEARCHES.values()} <= paths


async def test_without_an_engine_claude_code_shows_the_required_setting(
    claude_binary, home, provider, tmp_path
):
    session_of(provider)
    claude = await started(home, provider, claude_binary, tmp_path)
    session, result = await run(claude)
    session.expect("Done.")
    assert "Web search error: unavailable" in result
    assert "Set WEB_SEARCH" in result
