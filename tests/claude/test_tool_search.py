"""The real Claude Code with more tools than its provider accepts."""

from __future__ import annotations

import json

import pytest

from tests.claude.conftest import on_proxy
from tests.provider import completion, tool_call

pytestmark = pytest.mark.claude


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_claude_code_uses_a_deferred_tool(claude_binary, home, provider, tmp_path, api):
    (tmp_path / "note.txt").write_text("The answer is 42.\n")

    def answer(call):
        tools = {tool.get("function", tool)["name"] for tool in call.json.get("tools", ())}
        if "The answer is 42." in json.dumps(call.json):
            return completion("Done.")
        if "tool_search" not in tools:
            return completion("A title.")
        if "WebFetch" not in tools:
            return completion(
                "Let me look.", tool_calls=[tool_call("tool_search", {"query": "WebFetch"})]
            )
        return completion(
            tool_calls=[
                tool_call("Bash", {"command": "echo The answer is $((40+2))."}, call_id="c2")
            ]
        )

    provider.script(answer)
    home.write(
        many={
            "PROVIDER_BASE_URL": provider.url,
            "PROVIDER_API_KEY": "sk-upstream-1",
            "PROVIDER_API": api,
            "BIG_MODEL": "big",
            "SMALL_MODEL": "small",
            "MAX_TOOLS": "12",
        }
    )
    claude = await on_proxy("many", home, claude_binary, tmp_path)
    session = await claude.run("fetch", ENABLE_TOOL_SEARCH="false")
    session.expect("Done.")
    assert all(len(call.json.get("tools", ())) <= 12 for call in provider.calls)
