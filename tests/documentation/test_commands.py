"""Every command in the documentation works."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

from ccproxy.cli.command import ALIASES, commands
from ccproxy.cli.main import cli
from ccproxy.config.reader import read_file
from ccproxy.config.settings import SETTINGS
from tests.documentation.blocks import PAGES, blocks, ccproxy_calls, output_matches, steps
from tests.fleet import FleetHome

SESSIONS = [page for page in PAGES if steps(page)]
SCRIPTS = [page for page in PAGES if blocks(page, "sh")]
TABLES = """
[routes.Kimi-K3]
subagent = "GLM-5:big"

[presets.night]
big = "GLM-5:big"
small = "GLM-5:small"

[fallback]
Kimi-K3 = ["GLM-5"]
"""
CLAUDE = """\
import json, os, sys, urllib.request
# In place of Claude Code, which is proprietary: sends one request with the settings of run.
assert "--settings" in sys.argv or os.environ["ANTHROPIC_BASE_URL"], sys.argv
body = {"model": os.environ["ANTHROPIC_MODEL"], "max_tokens": 50,
        "messages": [{"role": "user", "content": sys.argv[-1]}]}
headers = {"content-type": "application/json", "anthropic-version": "2023-06-01",
           "authorization": "Bearer " + os.environ["ANTHROPIC_AUTH_TOKEN"]}
url = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
request = urllib.request.Request(url, json.dumps(body).encode(), headers)
print([b.get("text") for b in json.load(urllib.request.urlopen(request))["content"]])
"""


def test_sessions_and_scripts_are_found():
    assert len(SESSIONS) >= 5
    assert len(SCRIPTS) >= 5


@pytest.fixture
async def home(tmp_path):
    home = FleetHome(tmp_path)
    demo = {"PROVIDER": "demo", "MAX_RETRIES": "0"}
    home.write(**{"Demo": demo, "Kimi-K3": demo, "GLM-5": demo})
    with (tmp_path / "ccproxy.toml").open("a") as table:
        table.write(TABLES)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    _script(bin_folder / "ccproxy", f'exec "{sys.executable}" -m ccproxy "$@"')
    (tmp_path / "claude.py").write_text(CLAUDE)
    _script(bin_folder / "claude", f'exec "{sys.executable}" "{tmp_path}/claude.py" "$@"')
    home.environ["PATH"] = f"{bin_folder}:{home.environ['PATH']}"
    async with home:
        yield home


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


async def test_sessions_run_as_shown(home: FleetHome):
    """The commands of all pages run on one fleet, because a fleet for each would take longer."""
    assert (await home.ccproxy("start")).code == 0
    for name, step in ((page.name, step) for page in SESSIONS for step in steps(page)):
        child = await asyncio.create_subprocess_shell(
            step.command,
            cwd=home.path,
            env=home.environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(child.communicate(), 60)
        text = out.decode()
        shown = f"{name}: $ {step.command}\n{text}"
        assert child.returncode == 0, shown
        assert output_matches(step.output, text), f"{shown}\n!= {step.output}"


@pytest.mark.parametrize("page", SCRIPTS, ids=lambda page: page.name)
def test_a_script_is_valid(page: Path):
    for block in blocks(page, "sh"):
        script = block.replace("<this repository>", "REPOSITORY")
        done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        for words in ccproxy_calls(script):
            assert_accepted(words)


def assert_accepted(words: list[str]) -> None:
    """Assert that ccproxy has the command and its options; nothing is run."""
    name = next((word for word in words if not word.startswith("-")), "")
    name = ALIASES.get(name, name)
    assert name in commands(), f"ccproxy {' '.join(words)}"
    command = commands()[name].load()
    arguments = words[words.index(name) + 1 :]
    try:
        command.make_context(name, arguments, parent=click.Context(cli), resilient_parsing=False)
    except click.exceptions.Exit:
        pass  # --help
    except click.UsageError as error:
        if "does not exist" in str(error):  # a file of the user
            return
        pytest.fail(f"ccproxy {' '.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("name", commands())
def test_the_examples_of_a_command_are_accepted(name: str):
    command = commands()[name].load()
    calls = list(ccproxy_calls("\n".join(getattr(command, "examples", ()))))
    assert calls or name == "help"
    for words in calls:
        assert_accepted(words)


def test_only_the_output_shown_on_the_page_is_compared():
    assert output_matches("a … c\n…", "a  b c\nd\ne")
    assert not output_matches("a … d", "a b c")
    assert output_matches("", "")
    assert not output_matches("", "an output that the page hides")


TABLE_KEYS = {"proxies", "proxy", "routes", "presets", "fallback"}
USERS_KEYS = {"roles", "user"}
"""The settings of users.toml."""
INI = [page for page in PAGES if blocks(page, "ini")]
TOML = [page for page in PAGES if blocks(page, "toml")]


@pytest.mark.parametrize("page", INI, ids=lambda page: page.name)
def test_an_env_file_is_accepted(page: Path, tmp_path: Path):
    for number, text in enumerate(blocks(page, "ini")):
        file = tmp_path / f"{number}.env"
        # In a key, an ellipsis stands for the rest.
        file.write_text(re.sub(r"(?<=[\w-])…", "0123456789abcdef", text))
        file.chmod(0o600)
        reader = read_file(file, entry=None)
        reader.check_names()
        for setting in SETTINGS:
            reader.read(setting)
        assert [mistake for mistake in reader.mistakes if "placeholder" not in str(mistake)] == []


@pytest.mark.parametrize("page", TOML, ids=lambda page: page.name)
def test_a_table_is_accepted(page: Path):
    for text in blocks(page, "toml"):
        assert set(tomllib.loads(text)) <= TABLE_KEYS | USERS_KEYS
