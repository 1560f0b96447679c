"""Real Claude Code's WebSearch: a named engine on every dialect, providers' own searches, none."""

from __future__ import annotations

import json

import pytest

from tests.claude.conftest import on_proxy
from tests.provider import completion, raw, tool_call
from tests.search_engine import HITS, SearchEngine

pytestmark = pytest.mark.claude

SEARCH = tool_call("WebSearch", {"query": "aiohttp release"})
LINKS = {"url": HITS[0]["url"], "title": "First"}
RESPONSE = {
    "output": [
        {"type": "message", "content": [{"type": "output_text", "text": "It is 42.",
         "annotations": [{"type": "url_citation", **LINKS}]}]},
    ]
}  # fmt: skip
OWN = {
    "openai": RESPONSE,
    "zai": {"search_result": [{"link": LINKS["url"], "title": "First", "content": "It is 42."}]},
    "openrouter": {
        "choices": [{"message": {"content": "It is 42.", "annotations": [
            {"type": "url_citation", "url_citation": LINKS}]}}]
    },
}  # fmt: skip


def session_of(provider, own=None):
    """Script a session: the model searches once, then answers; *own* answers the search itself."""

    def answer(call):
        text = call.body.decode()
        if own is not None and "aiohttp release" in text and "WebSearch" not in text:
            return raw(json.dumps(own))
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


@pytest.mark.parametrize("preset", OWN)
async def test_the_providers_own_search(claude_binary, home, provider, tmp_path, preset):
    session_of(provider, OWN[preset])
    claude = await started(
        home, provider, claude_binary, tmp_path, PROVIDER=preset, PROVIDER_API="chat"
    )
    session, result = await run(claude)
    session.expect("Done.")
    assert LINKS["url"] in result
    assert "It is 42." in result


async def test_without_an_engine_claude_code_shows_what_to_set(
    claude_binary, home, provider, tmp_path
):
    session_of(provider)
    claude = await started(home, provider, claude_binary, tmp_path)
    session, result = await run(claude)
    session.expect("Done.")
    assert "Web search error: unavailable" in result
    assert "Set WEB_SEARCH" in result
