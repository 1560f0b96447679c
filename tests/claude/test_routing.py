"""A conversation that three entries answer, by the kind of request and after a switch."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.claude.conftest import on_proxy
from tests.claude.driver import Claude
from tests.fleet import FleetHome
from tests.openai_rules import REASONING, violations
from tests.provider import Answer, Call, Provider, completion, failure, tool_call

pytestmark = pytest.mark.claude

RULES = """
[routes.kimi]
subagent = "glm:big"
background = "native:small"

[presets.other]
big = "native:big"
small = "glm:small"
"""


@pytest.fixture
async def providers(home: FleetHome):
    """One provider each for kimi and glm (Chat Completions) and native (Messages)."""
    async with AsyncExitStack() as stack:
        names = ("kimi", "glm", "native")
        result = {name: await stack.enter_async_context(Provider()) for name in names}
        api = {"native": {"PROVIDER_API": "messages"}}
        home.write(
            **{
                name: {
                    "PROVIDER_BASE_URL": provider.url,
                    "PROVIDER_API_KEY": f"sk-{name}-0123456789",
                    "BIG_MODEL": f"{name}-big",
                    "SMALL_MODEL": f"{name}-small",
                    "HISTORY": "on",
                    **api.get(name, {}),
                }
                for name, provider in result.items()
            }
        )
        table = home.path / "ccproxy.toml"
        table.write_text(table.read_text() + RULES)
        yield result


@pytest.fixture
async def claude(claude_binary: Path, home: FleetHome, providers, tmp_path: Path) -> Claude:
    return await on_proxy("kimi", home, claude_binary, tmp_path)


def models(provider: Provider) -> list[str]:
    return [call.json["model"] for call in provider.calls]


def counting(call: Call) -> Answer:
    """Let an agent count and report its result, with reasoning in between."""
    output = json.dumps(call.json["messages"])
    if "7 files" in output:
        return completion("There are seven.", reasoning="So it is seven.")
    names = {tool["function"]["name"] for tool in call.json["tools"]}
    (name,) = names & {"Agent", "Task"}
    task = {
        "description": "Count",
        "prompt": "Count the files, agent.",
        "subagent_type": "general-purpose",
        "run_in_background": False,
    }
    return completion(reasoning="Who could count?", tool_calls=[tool_call(name, task)])


def only_its_own_thinking(call: Call) -> Answer:
    """Reject thinking that another provider signed, like Anthropic."""
    if '"thinking": "Who could count?"' in json.dumps(call.json["messages"]):
        error = {"type": "invalid_request_error", "message": "messages.1: Invalid `signature`"}
        return failure(400, {"type": "error", "error": error})
    return completion("Seven, from native.")


async def test_three_entries_answer_one_conversation(claude, home, providers):
    kimi, glm, native = (providers[name] for name in ("kimi", "glm", "native"))
    kimi.script(counting)
    glm.script(completion("I counted 7 files.", reasoning="One, two, …"))
    native.script(completion("From the background."))

    session = await claude.run("How many files? Let an agent count.")
    session.expect("There are seven.")
    assert set(models(kimi)) == {"kimi-big"}
    assert models(glm) == ["glm-big"]
    assert "Count the files, agent." in json.dumps(glm.calls[0].json)
    assert native.calls == []

    (await claude.run("Quick, in the background", "--model", "haiku")).expect(
        "From the background."
    )
    assert models(native) == ["native-small"]
    assert len(kimi.calls) == 2

    await switched_in_the_middle(claude, home, providers)
    for provider in (kimi, glm):
        for call in provider.calls:
            assert violations(call.json, tolerated=REASONING) == []


async def switched_in_the_middle(claude, home, providers) -> None:
    """Continue the conversation: two other providers receive the thinking of the first."""
    kimi, native = providers["kimi"], providers["native"]
    before = len(kimi.calls)
    native.script(only_its_own_thinking)
    done = await home.ccproxy("switch", "kimi", "other")
    assert done.code == 0, done
    first = await claude.run("How many files? Let an agent count again.")
    assert len(kimi.calls) == before, "nothing goes to kimi any more"
    first.expect("Seven, from native.")
    assert models(native)[-1] == "native-big"

    done = await home.ccproxy("switch", "kimi", "--big", "kimi:kimi-other")
    assert done.code == 0, done
    kimi.script(completion("Back at kimi."))
    (await claude.run("And now?", "--continue")).expect("Back at kimi.")
    assert models(kimi)[-1] == "kimi-other"
    output = json.dumps(kimi.calls[-1].json["messages"])
    assert "Seven, from native." in output


async def test_hint_headers_name_class_and_agent(claude, home, providers):
    kimi, glm, native = (providers[name] for name in ("kimi", "glm", "native"))
    table = home.path / "ccproxy.toml"
    rules = '[routes.kimi.agents]\ngeneral-purpose = "glm:small"\n'
    table.write_text(table.read_text().replace("[presets.other]", rules + "[presets.other]"))
    kimi.script(counting)
    glm.script(completion("I counted 7 files."))
    hints = {"CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1"}
    session = await claude.run("How many files? Let an agent count.", **hints)
    session.expect("There are seven.")
    assert models(glm) == ["glm-small"]
    assert (set(models(kimi)), native.calls) == ({"kimi-big"}, [])


async def test_thinking_of_one_provider_meets_another(claude, home, providers):
    kimi, glm, native = (providers[name] for name in ("kimi", "glm", "native"))
    kimi.script(counting)
    glm.script(completion("I counted 7 files.", reasoning="One, two, …"))
    (await claude.run("How many files? Let an agent count.")).expect("There are seven.")
    native.script(only_its_own_thinking)
    await home.ccproxy("switch", "kimi", "other")
    (await claude.run("Sure?", "--continue")).expect("Seven, from native.")
    assert len(native.calls) == 2, "once with the thinking, once without"
    done = await home.ccproxy("switch", "kimi", "--big", "glm:big")
    assert done.code == 0, done
    glm.script(completion("Seven, from GLM."))
    (await claude.run("Really?", "--continue")).expect("Seven, from GLM.")
    output = json.dumps(glm.calls[-1].json["messages"])
    assert "There are seven." in output
    assert "Seven, from native." in output
    await each_turn_once(home)


async def each_turn_once(home: FleetHome) -> None:
    """Check that each answer is in the history once, under the entry that gave it."""
    texts = [turn["content"] for label in home.ports for turn in await history(home, label)]
    for text in ("There are seven.", "Seven, from native.", "Seven, from GLM."):
        assert sum(text in output for output in texts) == 1, texts


async def history(home: FleetHome, label: str) -> list[dict[str, str]]:
    late = time.monotonic() + 10
    while True:
        done = await home.ccproxy("history", label, "--json")
        turns = [json.loads(line) for line in done.out.splitlines() if line.startswith("{")]
        output = [turn for turn in turns if turn.get("role") == "assistant"]
        if output or time.monotonic() > late:
            return output
        await asyncio.sleep(0.2)
