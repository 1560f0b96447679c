"""`ccproxy run` and `env` with the real Claude Code: the right provider, model and window."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.claude.driver import Claude, Session, play, started
from tests.fleet import FleetHome
from tests.provider import Provider, completion

pytestmark = pytest.mark.claude

KEYS = {"kimi": "sk-upstream-kimi-0123456789", "glm": "sk-upstream-glm-0123456789"}


class Fleet:
    """Two proxies for one provider, and a user with a separate home."""

    def __init__(self, home: FleetHome, provider: Provider, claude: Claude) -> None:
        self.home, self.provider, self.claude = home, provider, claude
        self.environ = claude.environment(PYTHONPATH=":".join(sys.path))
        table = str(home.path / "ccproxy.toml")
        self.ccproxy = [sys.executable, "-m", "ccproxy", "--config", table]

    def save(self, **settings: Any) -> None:
        """Write the user's settings.json."""
        folder = self.claude.folder / ".claude"
        folder.mkdir(exist_ok=True)
        (folder / "settings.json").write_text(json.dumps(settings))

    async def run(self, *arguments: str, prompt: str = "Hi") -> Session:
        """Run `ccproxy run kimi -- claude` with *arguments*."""
        binary = str(self.claude.binary)
        command = [*self.ccproxy, "run", "kimi", "--", binary]
        arguments = (*self.claude.arguments(prompt, *arguments),)
        return await play([*command, *arguments], self.claude.cwd, self.environ)

    async def text(self, command: list[str]) -> str:
        """Run *command* and return its output."""
        async with started(command, self.claude.cwd, self.environ) as child:
            out, errors = await asyncio.wait_for(child.communicate(), 90)
        assert child.returncode == 0, (out, errors)
        return out.decode()


@pytest.fixture
async def fleet(claude_binary: Path, home: FleetHome, provider: Provider, tmp_path: Path) -> Fleet:
    models = {"BIG_MODEL": "model-b", "MIDDLE_MODEL": "model-m", "SMALL_MODEL": "model-s"}
    server = {"PROVIDER_BASE_URL": provider.url, **models}
    home.write(
        kimi={**server, "PROVIDER_API_KEY": KEYS["kimi"], "CONTEXT_WINDOW": "262144"},
        glm={**server, "PROVIDER_API_KEY": KEYS["glm"], "CONTEXT_WINDOW": "131072"},
    )
    done = await home.ccproxy("start")
    assert done.code == 0, done
    folder = tmp_path / "claude"
    folder.mkdir()
    return Fleet(home, provider, Claude(claude_binary, folder, {}))


def requests(fleet: Fleet) -> set[tuple[str, str]]:
    return {(call.json["model"], call.key) for call in fleet.provider.calls}


@pytest.mark.parametrize("saved", ["glm:big", "some/other-model"])
async def test_a_saved_model_never_selects_another_provider(saved, fleet):
    fleet.save(model=saved)
    (await fleet.run()).expect("ok")
    assert requests(fleet) == {("model-b", KEYS["kimi"])}


@pytest.mark.parametrize(
    ("alias", "model"),
    [("opus", "model-b"), ("sonnet", "model-m"), ("haiku", "model-s"), ("fable", "model-b")],
)
async def test_every_alias_is_a_model_of_the_proxy(alias, model, fleet):
    (await fleet.run("--model", alias)).expect("ok")
    assert requests(fleet) == {(model, KEYS["kimi"])}


async def test_the_settings_file_works_without_ccproxy_in_front(fleet):
    """Claude Code uses the file again in its resume command and for background sessions."""
    fleet.provider.script(completion("First."), completion("Second."))
    first = await fleet.run()
    first.expect("First.")
    settings = fleet.home.path / "state/claude/kimi.json"
    resume = ["--settings", str(settings), "--resume", first.result["session_id"]]
    command = [str(fleet.claude.binary), *fleet.claude.arguments("And now?", *resume)]
    second = await play(command, fleet.claude.cwd, fleet.environ)
    second.expect("Second.")
    assert "First." in json.dumps(fleet.provider.calls[-1].json["messages"])


async def test_settings_that_lead_elsewhere_are_overridden(fleet):
    fleet.save(
        env={
            "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
            "ANTHROPIC_API_KEY": "sk-ant-of-the-user-0123456789",
            "ANTHROPIC_MODEL": "claude-opus-5-5",
            "CLAUDE_CODE_USE_BEDROCK": "1",
            "CLAUDE_CODE_USE_MANTLE": "1",
            "HTTPS_PROXY": "http://127.0.0.1:9",
            "HTTP_PROXY": "http://127.0.0.1:9",
            "NO_PROXY": ".corp",
        }
    )
    (await fleet.run()).expect("ok")
    assert requests(fleet) == {("model-b", KEYS["kimi"])}


@pytest.mark.parametrize(("alias", "window"), [("opus", "262.1k"), ("haiku", "131.1k")])
async def test_each_model_has_its_own_context_window(alias, window, fleet):
    done = await fleet.home.ccproxy("switch", "kimi", "--small", "glm:model-s")
    assert done.code == 0, done
    command = [*fleet.ccproxy, "run", "kimi", "--", str(fleet.claude.binary)]
    output = await fleet.text([*command, "-p", "--model", alias, "/context"])
    assert f"/ {window}" in output


async def test_a_shell_uses_the_proxy_whatever_model_is_saved(fleet):
    fleet.save(model="glm:big")
    env = shlex.join([*fleet.ccproxy, "-q", "env", "kimi", "--shell", "bash"])
    claude = shlex.join([str(fleet.claude.binary), "-p", "Hi"])
    output = await fleet.text(["bash", "-c", f'eval "$({env})" && {claude}'])
    assert "ok" in output
    assert requests(fleet) == {("model-b", KEYS["kimi"])}
