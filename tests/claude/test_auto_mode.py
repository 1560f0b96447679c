"""The real Claude Code in auto mode: the judge's verdict decides, not Claude Code's classifier."""

from __future__ import annotations

import pytest

from tests.claude.conftest import on_proxy
from tests.claude.driver import play
from tests.provider import completion, tool_call

pytestmark = pytest.mark.claude

COMMAND = "touch made-by-the-agent && rm -rf made-by-the-agent-2"


@pytest.mark.parametrize("verdict", ["allow", "block it deletes things"], ids=["allow", "block"])
async def test_the_verdict_decides(claude_binary, home, provider, tmp_path, verdict):
    def answer(call):
        if call.json["model"] == "judge-model":
            return completion(f"1 {verdict}")
        if '"role":"tool"' in call.body.decode():
            return completion("Done.")
        return completion(tool_calls=[tool_call("Bash", {"command": COMMAND})])

    provider.script(answer)
    settings = {"PROVIDER_BASE_URL": provider.url, "PROVIDER_API_KEY": "sk-upstream-1"}
    home.write(auto={**settings, "BIG_MODEL": "big", "SMALL_MODEL": "small",
                     "AUTO_MODE_MODEL": "judge-model", "PASS_MODELS": "judge-*"})  # fmt: skip
    claude = await on_proxy("auto", home, claude_binary, tmp_path)
    options = ["-p", "--output-format", "stream-json", "--verbose", "--permission-mode", "auto"]
    command = [str(claude.binary), *options, "--", "go"]
    session = await play(command, claude.cwd, claude.environment())
    session.expect("Done.")
    assert (claude.cwd / "made-by-the-agent").exists() == (verdict == "allow")
    (result,) = session.tool_results.values()
    assert ("it deletes things" in result) == (verdict != "allow")
    prompts = [len(call.body) for call in provider.calls if call.json["model"] != "big"]
    assert max(prompts) < 20_000, "the client's own classifier was asked"
