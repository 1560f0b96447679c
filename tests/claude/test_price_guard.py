"""`PRICE_GUARD` with the real Claude Code: it compacts below the price threshold, not above it."""

from __future__ import annotations

import json
import sys

import pytest

from ccproxy.protocol.claude_code import COMPACTION_PROMPT
from tests.claude.conftest import on_proxy
from tests.claude.driver import play
from tests.provider import Call, completion, tool_call

pytestmark = pytest.mark.claude

THRESHOLD = 100_000
TOKENS = range(20_000, 140_000, 10_000)
"""Prompt tokens of the successive requests."""
LONG = "A long explanation of the step. " * 1250
"""About 10,000 tokens, because Claude Code does not compact a short conversation."""


@pytest.mark.parametrize("guard", ["on", "off"])
@pytest.mark.parametrize(
    ("preset", "api", "model"),
    [("anthropic", "messages", "claude-haiku-5-5"), ("openai", "chat", "a-model")],
)
async def test_a_session_is_compacted_below_the_threshold(
    preset, api, model, guard, claude_binary, home, provider, tmp_path
):
    """The model's price rises above 100,000 tokens."""
    key = {"anthropic": "sk-ant-1234567890123456", "openai": "sk-own-1234567890123456"}[preset]
    own = {"BIG_MODEL": model, "CONTEXT_WINDOW": "400000"} if preset == "openai" else {}
    prices = {"PRICES": f"{model}=1/2/0.1; above 100k=2/4/0.2"} if preset == "openai" else {}
    home.write(
        guarded={
            "PROVIDER": preset,
            "PROVIDER_API": api,
            "PROVIDER_BASE_URL": provider.url,
            "PROVIDER_API_KEY": key,
            "PRICE_GUARD": guard,
            **own,
            **prices,
        }
    )
    claude = await on_proxy("guarded", home, claude_binary, tmp_path)
    compactions: list[Call] = []
    sizes = iter(TOKENS)
    sent: list[int] = []

    def script(call: Call):
        kind = call.headers.get("x-claude-code-request-class")  # only in direct mode
        if kind == "compaction" or COMPACTION_PROMPT.decode() in json.dumps(call.json["messages"]):
            compactions.append(call)
            return completion("<analysis>a</analysis><summary>We ran steps.</summary>")
        size = None if compactions else next(sizes, None)
        if size is None:
            return completion("Done.")
        sent.append(size)
        usage = {"prompt_tokens": size, "completion_tokens": 9}
        calls = [tool_call("Bash", {"command": "echo step"}, call_id=f"call_{size}")]
        return completion(LONG, tool_calls=calls, usage=usage)

    provider.script(script)
    arguments = claude.arguments("Do many steps", "--model", model)
    table = str(home.path / "ccproxy.toml")
    run = [sys.executable, "-m", "ccproxy", "--config", table, "run", "guarded", "--"]
    environ = claude.environment(PYTHONPATH=":".join(sys.path))
    session = await play([*run, str(claude_binary), *arguments], claude.cwd, environ)
    session.expect("Done.")
    assert len(compactions) == (guard == "on")
    assert (max(sent) < THRESHOLD) is (guard == "on")
