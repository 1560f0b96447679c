"""
Sessions of the real Claude Code with the answer formats of popular providers.

The provider answers like the named one: with its reasoning field, ids and pieces. The requests must
be acceptable for it and return all data that it requires.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from ccproxy.providers.presets import load_presets
from ccproxy.routing.tiers import ModelMap
from tests.chat_rules import violations
from tests.claude.conftest import on_proxy
from tests.provider import Call, chunk, completion, stream, tool_call
from tests.shapes import SEALED, SHAPES, SIGNED, Turn, plays, shows_thinking

pytestmark = pytest.mark.claude

PRESETS = ["kimi", "zai", "minimax", "gemini", "deepseek", "qwen", "openrouter"]


def bash(command: str) -> tuple[str, dict[str, Any]]:
    return "Bash", {"command": command, "description": "Say it"}


TURNS = (
    Turn(thought="Two at once.", calls=(bash("echo one-$((20+1))"), bash("echo two-$((20+2))"))),
    Turn(thought="One more.", text="And a third.", calls=(bash("echo ünï-$((20+3))"),)),
    Turn(thought="All there.", text="They say 21, 22 and 23."),
)


def quirks_of(preset: str):
    model = SHAPES[preset].model
    cards = load_presets()[preset].cards()
    return ModelMap(big=model, middle=model, small=model, cards=cards).card(model).quirks


def settings(preset: str, provider) -> dict[str, str]:
    model = SHAPES[preset].model
    tiers = {"BIG_MODEL": model, "MIDDLE_MODEL": model, "SMALL_MODEL": model}
    key = {"PROVIDER_API_KEY": "sk-upstream-1"}
    return {"PROVIDER": preset, "PROVIDER_BASE_URL": provider.url, **key, **tiers}


def texts_of(call: Call, role: str) -> list[dict[str, Any]]:
    return [message for message in call.json["messages"] if message["role"] == role]


def results(call: Call) -> list[str]:
    """Return the texts of the tool results; a part with a cache mark is also text."""
    contents = [message["content"] for message in texts_of(call, "tool")]
    return [each if isinstance(each, str) else each[0]["text"] for each in contents]


@pytest.mark.parametrize("preset", PRESETS)
async def test_a_tool_loop_with_thinking(claude_binary, home, provider, tmp_path, preset):
    home.write(**{preset: settings(preset, provider)})
    claude = await on_proxy(preset, home, claude_binary, tmp_path)
    provider.script(*plays(preset, *TURNS))
    session = await claude.run("Say three numbers")

    session.expect(TURNS[-1].text)
    assert [call["name"] for call in session.tool_calls] == ["Bash"] * 3
    assert len(provider.calls) == 3
    for call in provider.calls:
        assert violations(call.json, quirks=quirks_of(preset)) == [], f"request {call.number}"
    last = provider.calls[-1]
    assert results(last) == ["one-21", "two-22", "ünï-23"]
    history = json.dumps(texts_of(last, "assistant"), ensure_ascii=False)
    takes = shows_thinking(preset) and quirks_of(preset).history != "drop"
    assert (TURNS[0].thought in history) is takes
    assert (TURNS[1].thought in history) is takes
    assert history.count(SIGNED) == (2 if preset == "gemini" else 0)
    assert history.count(SEALED) == (2 if preset == "openrouter" else 0)


async def test_an_empty_signed_block_is_returned_in_any_position(
    claude_binary, home, provider, tmp_path
):
    """Claude Code returns a signature before a call, after it, and after a call and a text."""
    home.write(gemini=settings("gemini", provider))
    claude = await on_proxy("gemini", home, claude_binary, tmp_path)

    def signature(name: str) -> dict[str, Any]:
        return {"extra_content": {"google": {"thought_signature": name}}}

    def call(number: int, **more: Any) -> dict[str, Any]:
        made = tool_call("Bash", {"command": f"echo {number}"}, call_id=f"call_{number}")
        return chunk(tool_calls=[{"index": 0, **made, **more}])

    def late(number: int) -> dict[str, Any]:
        empty = {"index": 0, "id": f"call_{number}", "function": {"arguments": ""}}
        return chunk(tool_calls=[{**empty, **signature(f"late-{number}")}])

    end = chunk(finish="stop")
    provider.script(
        stream(call(1, **signature("early-1")), end),
        stream(call(2), late(2), end),
        stream(chunk("Text first."), call(3), late(3), end),
        completion("Done."),
    )
    session = await claude.run("Go")
    session.expect("Done.")
    calls = [
        call
        for message in texts_of(provider.calls[-1], "assistant")
        for call in message["tool_calls"]
    ]
    result = [call["extra_content"]["google"]["thought_signature"] for call in calls]
    assert result == ["early-1", "late-2", "late-3"]


async def test_a_session_changes_its_provider_twice(claude_binary, home, provider, tmp_path):
    """The session starts on Kimi and returns to it after Gemini; each gets its own data."""
    home.write(kimi=settings("kimi", provider), gemini=settings("gemini", provider))
    claude = await on_proxy("kimi", home, claude_binary, tmp_path)
    gemini = {"ANTHROPIC_BASE_URL": home.url("gemini")}
    first, second, third = (
        Turn(thought=f"Thought {n}.", calls=(bash(f"echo {n}{n}-$(({n}+40))"),)) for n in (1, 2, 3)
    )
    ends = [Turn(thought=f"End {n}.", text=f"Said {n}.") for n in (1, 2, 3)]

    provider.script(*plays("kimi", first, ends[0]))
    (await claude.run("One")).expect("Said 1.")
    provider.script(*plays("gemini", second, ends[1]))
    (await claude.run("Two", "--continue", **gemini)).expect("Said 2.")
    provider.script(*plays("kimi", third, ends[2]))
    (await claude.run("Three", "--continue")).expect("Said 3.")

    assert len(provider.calls) == 6
    for number, call in enumerate(provider.calls):
        name = "gemini" if number in (2, 3) else "kimi"
        assert violations(call.json, quirks=quirks_of(name)) == [], f"request {number}"
    assert results(provider.calls[-1]) == ["11-41", "22-42", "33-43"]
    turns = [
        message for message in texts_of(provider.calls[-1], "assistant") if "tool_calls" in message
    ]
    assert [turn["reasoning_content"] for turn in turns] == ["Thought 1.", "", "Thought 3."]
    everything = "".join(call.body.decode() for call in provider.calls)
    assert "ccproxy1." not in everything
    signed = [SIGNED in call.body.decode() for call in provider.calls]
    assert signed == [False, False, False, True, False, False]
