"""Claude Code in a terminal: the fleet's models in its picker, and ccproxy's status line."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from tests.claude.driver import Claude, play
from tests.claude.screen import DOWN, ENTER, Screen, skip_first_questions
from tests.fleet import FleetHome, eventually
from tests.provider import Call, Provider, completion, failure, tool_call

pytestmark = pytest.mark.claude

T = TypeVar("T")

KEYS = {"kimi": "sk-upstream-kimi-0123456789", "glm": "sk-upstream-glm-0123456789"}
MODELS = {"BIG_MODEL": "model-b", "SMALL_MODEL": "model-s", "MAX_RETRIES": "0"}


class Desk:
    """Two proxies, each with its own provider, and a user at a terminal."""

    def __init__(self, home: FleetHome, claude: Claude, providers: dict[str, Provider]) -> None:
        self.home, self.claude, self.providers = home, claude, providers
        self.environ = claude.environment(PYTHONPATH=":".join(sys.path))
        table = str(home.path / "ccproxy.toml")
        self.run = [sys.executable, "-m", "ccproxy", "--config", table, "run", "kimi", "--"]
        """The beginning of a command on kimi."""
        self.settings = claude.folder / ".claude/settings.json"
        skip_first_questions(claude.folder, claude.cwd)

    @contextlib.contextmanager
    def session(self, *arguments: str, label: str = "kimi", pane: bool = False) -> Iterator[Screen]:
        """Start Claude Code on the entry *label*."""
        run = [*self.run[:-2], *(["--pane"] if pane else []), label, "--"]
        command = [*run, str(self.claude.binary), *arguments]
        screen = Screen(command, self.claude.cwd, self.environ)
        try:
            yield screen
        finally:
            screen.close()

    def models(self, label: str) -> list[str]:
        """Return the models that were requested from the provider of *label*."""
        return [call.json["model"] for call in self.providers[label].calls]

    def saved_model(self) -> object:
        """Return the model in the user's settings, or None."""
        return json.loads(self.settings.read_text()).get("model")


@pytest.fixture
async def desk(claude_binary: Path, home: FleetHome, tmp_path: Path):
    async with Provider() as kimi, Provider() as glm:
        providers = {"kimi": kimi, "glm": glm}
        windows = {"kimi": "262144", "glm": "131072"}
        home.write(
            **{
                label: {
                    **MODELS,
                    "PROVIDER_BASE_URL": providers[label].url,
                    "PROVIDER_API_KEY": KEYS[label],
                    "CONTEXT_WINDOW": windows[label],
                }
                for label in KEYS
            }
        )
        done = await home.ccproxy("start")
        assert done.code == 0, done
        folder = tmp_path / "claude"
        folder.mkdir()
        desk = Desk(home, Claude(claude_binary, folder, {}), providers)
        yield desk
        _end_processes_of(folder)


def _end_processes_of(user: Path) -> None:
    """Kill Claude Code's background service, which uses the user's home."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HOME") == str(user):
                process.kill()


async def at_desk(story: Callable[[Desk], T], desk: Desk) -> T:
    """Run *story* in a thread, because the providers answer in this one."""
    return await asyncio.to_thread(story, desk)


def choose_glm(screen: Screen, key: str) -> None:
    """Open the picker, move to the first model of glm, and press *key*."""
    screen.press(*"/model", ENTER)
    screen.wait_for("Select model")
    for _ in range(20):
        if re.search(r"❯ +\d+\. glm · model-b", screen.text):
            break
        screen.press(DOWN)
    else:
        raise AssertionError(screen.text)
    screen.press(key)


async def test_a_model_of_another_entry_for_this_session_only(desk: Desk) -> None:
    def story(desk: Desk) -> str:
        with desk.session() as screen:
            screen.wait_for("kimi · model-b", "0% of 256K")
            choose_glm(screen, "s")
            screen.wait_for("for this session only", "kimi → glm · model-b  0% of 128K")
            screen.press(*"Hello", ENTER)
            screen.wait_for("● ok", "keys 1/1")
            screen.press(*"/context", ENTER)
            text = screen.wait_for("131.1k tokens")
            screen.press(*"/exit", ENTER)
            assert screen.end() == 0
            return text

    text = await at_desk(story, desk)
    assert "Context usage" in text
    assert desk.models("glm") == ["model-b"]
    assert desk.providers["glm"].calls[0].key == KEYS["glm"]
    assert desk.models("kimi") == []
    assert not list((desk.home.path / "state/claude").glob("*.model"))


async def test_a_saved_choice_stays_with_the_label_and_its_session_resumes(
    desk: Desk,
) -> None:
    desk.settings.parent.mkdir()
    desk.settings.write_text(json.dumps({"model": "sonnet"}))

    def story(desk: Desk) -> str:
        with desk.session() as screen:
            screen.wait_for("kimi · model-b")
            screen.press(*"Hello", ENTER)
            screen.wait_for("● ok")
            choose_glm(screen, ENTER)
            screen.wait_for("Switch model?")
            screen.press(ENTER)
            screen.wait_for("saved as your default")
            assert desk.saved_model() == "glm:big"
            screen.press(*"/exit", ENTER)
            assert screen.end() == 0
            return screen.text

    text = await at_desk(story, desk)
    assert desk.saved_model() == "sonnet"
    assert (desk.home.path / "state/claude/kimi.model").read_text() == "glm:big\n"
    hint = re.search(r"claude (--settings \S+ )?--resume ([0-9a-f-]{36})", text)
    assert hint is not None, text
    # Version 2.1.329 omits the settings in its hint.
    settings = hint[1] or f"--settings {desk.home.path}/state/claude/kimi.json"
    arguments = desk.claude.arguments("And now?", *settings.split(), "--resume", hint[2])
    resumed = await play([str(desk.claude.binary), *arguments], desk.claude.cwd, desk.environ)
    resumed.expect("ok")
    assert "Hello" in json.dumps(desk.providers["kimi"].calls[-1].json["messages"])


async def test_the_status_line_names_a_fallback(desk: Desk) -> None:
    table = desk.home.path / "ccproxy.toml"
    table.write_text(table.read_text() + '[fallback]\nkimi = ["glm"]\n')
    desk.providers["kimi"].script(failure(500))

    def story(desk: Desk) -> None:
        with desk.session() as screen:
            screen.wait_for("kimi · model-b  0% of 256K")
            screen.press(*"Hello", ENTER)
            screen.wait_for("● ok", "kimi → glm · model-b (fallback: api_error)")
            screen.wait_for("the first request failed at", "0% of 128K")

    await at_desk(story, desk)


async def test_from_a_dead_provider_to_another_one_without_leaving(desk: Desk) -> None:
    desk.providers["kimi"].script(failure(401))

    def story(desk: Desk) -> None:
        with desk.session() as screen:
            screen.wait_for("kimi · model-b")
            screen.press(*"Hello", ENTER)
            text = screen.wait_for("6789")  # the end of the rejected key
            assert "kimi" in text
            choose_glm(screen, "s")
            screen.press(*"Hello again", ENTER)
            screen.wait_for("● ok", "kimi → glm")

    await at_desk(story, desk)
    assert set(desk.models("glm")) == {"model-b"}


async def test_a_background_session_uses_the_provider_also_after_a_resume(desk: Desk) -> None:
    def story(desk: Desk) -> None:
        with desk.session("--bg", "Hello from the background") as screen:
            screen.wait_for("backgrounded")

    await at_desk(story, desk)
    call = await asked(desk.providers["kimi"], "Hello from the background")
    assert call.key == KEYS["kimi"]
    assert desk.models("glm") == []

    def answered() -> list[str]:
        files = (desk.claude.folder / ".claude/projects").rglob("*.jsonl")
        return [file.stem for file in files if '"assistant"' in file.read_text()]

    (session,) = await eventually(answered)

    def resumed(desk: Desk) -> None:
        with desk.session(
            *("--bg", "--resume", session, "--fork-session", "And now?"), label="glm"
        ) as screen:
            screen.wait_for("backgrounded")

    await at_desk(resumed, desk)
    call = await asked(desk.providers["glm"], "And now?")
    assert "Hello from the background" in json.dumps(call.json["messages"])
    assert (call.key, call.json["model"]) == (KEYS["glm"], "model-b")


async def test_a_session_that_goes_to_the_background_keeps_its_model(desk: Desk) -> None:
    def story(desk: Desk) -> None:
        with desk.session() as screen:
            screen.wait_for("kimi · model-b")
            screen.press(*"Hello", ENTER)
            screen.wait_for("● ok")
            choose_glm(screen, "s")
            screen.wait_for("Switch model?")
            screen.press(ENTER)
            screen.wait_for("kimi → glm · model-b")
            screen.press(*"/background go on", ENTER)
            screen.wait_for("backgrounded")

    await at_desk(story, desk)
    call = await asked(desk.providers["glm"], "go on")
    assert (call.key, call.json["model"]) == (KEYS["glm"], "model-b")
    small = [call for call in desk.providers["kimi"].calls if call.json["model"] == "model-s"]
    assert {call.key for call in small} == {KEYS["kimi"]}, "the small tier stays with the label"


async def asked(provider: Provider, prompt: str) -> Call:
    """Wait for Claude Code's request that ends with *prompt*."""

    def turn() -> Call | None:
        calls = (call for call in provider.calls if call.json.get("tools"))
        return next((one for one in calls if prompt in json.dumps(one.json["messages"])), None)

    return await eventually(turn)


async def test_the_discovery_lists_the_fleet_for_a_session_started_by_hand(desk: Desk) -> None:
    discovery = {
        "ANTHROPIC_BASE_URL": desk.home.url("kimi"),
        "ANTHROPIC_AUTH_TOKEN": "none-needed",
        "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
    }

    def story(desk: Desk) -> None:
        command = [str(desk.claude.binary)]
        screen = Screen(command, desk.claude.cwd, {**desk.environ, **discovery})
        with contextlib.closing(screen):
            screen.wait_for("API Usage Billing")
            choose_glm(screen, "s")
            screen.press(*"Hello", ENTER)
            screen.wait_for("● ok")

    await at_desk(story, desk)
    assert "model-b" in desk.models("glm")


async def test_the_pane_shows_the_session_and_the_fleet(desk: Desk) -> None:
    def story(desk: Desk) -> None:
        with desk.session(pane=True) as screen:
            screen.wait_for("kimi · model-b  0% of 256K")
            screen.press(*"/ccproxy", ENTER)
            screen.wait_for("This session", "The fleet", "glm")

    await at_desk(story, desk)


AGENT = """\
---
name: counter
description: Counts
model: glm:small
---
You count.
"""


def counting(call: Call) -> Any:
    """Let the agent `counter` count."""
    if "There are 7." in json.dumps(call.json["messages"]):
        return completion("Seven.")
    task = {
        "description": "Count",
        "prompt": "Count the files.",
        "subagent_type": "counter",
        "run_in_background": False,
    }
    names = {tool["function"]["name"] for tool in call.json["tools"]}
    (name,) = names & {"Agent", "Task"}
    return completion(tool_calls=[tool_call(name, task)])


async def test_an_agent_uses_a_model_of_another_entry(desk: Desk) -> None:
    agents = desk.claude.cwd / ".claude/agents"
    agents.mkdir(parents=True)
    (agents / "counter.md").write_text(AGENT)
    desk.providers["kimi"].script(counting)
    desk.providers["glm"].script(completion("There are 7."))
    command = [*desk.run, str(desk.claude.binary), *desk.claude.arguments("How many files?")]
    session = await play(command, desk.claude.cwd, desk.environ)
    session.expect("Seven.")
    assert desk.models("glm") == ["model-s"]
