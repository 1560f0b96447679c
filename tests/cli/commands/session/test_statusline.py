"""`ccproxy statusline`: the line itself, and its installation in Claude Code's settings."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.terminal import Terminal

OWN = {"type": "command", "command": "echo mine", "padding": 1}


@pytest.fixture
def settings() -> Path:
    """The user's settings.json, with the user's own status line."""
    file = Path(os.environ["HOME"], ".claude/settings.json")
    file.parent.mkdir()
    file.write_text(json.dumps({"statusLine": OWN, "theme": "dark"}))
    file.chmod(0o640)
    return file


def read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text())


def test_the_line_wraps_the_users_and_can_be_uninstalled(settings, demo, process):
    before = read(settings)
    done = process("statusline", "--install", "--yes")
    assert done.returncode == 0, done.stderr
    assert "To undo:  ccproxy statusline --uninstall" in done.stdout
    installed = read(settings)
    assert (installed["theme"], installed["statusLine"]["padding"]) == ("dark", 1)
    assert settings.stat().st_mode & 0o777 == 0o640
    result = subprocess.run(
        installed["statusLine"]["command"],
        shell=True,
        input="{}",
        env={**os.environ, "CCPROXY_ACTIVE": "Demo"},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("mine\nDemo: the proxy does not answer")
    assert "already installed" in process("statusline", "--install", "--yes").stdout
    process("statusline", "--uninstall", "--yes")
    assert read(settings) == before
    assert "not installed" in process("statusline", "--uninstall", "--yes").stdout


def test_without_settings_there_is_nothing_to_wrap(demo, process):
    file = Path(os.environ["HOME"], ".claude/settings.json")
    process("statusline", "--install", "--yes")
    assert "--wrap" not in read(file)["statusLine"]["command"]
    process("statusline", "--uninstall", "--yes")
    assert read(file) == {}


def test_a_session_of_run_does_not_show_an_installed_line_twice(settings, demo, process):
    process("statusline", "--install", "--yes")
    command = read(settings)["statusLine"]["command"]
    from ccproxy.cli.session.status_setting import status_setting

    assert status_setting("ours", read(settings)["statusLine"])["command"] == (
        "ours --wrap 'echo mine'"
    )
    assert command.count("--wrap") == 1


@pytest.mark.parametrize(
    ("text", "args", "words"),
    [
        ("{", ["--install", "--yes"], "is not JSON"),
        ("[]", ["--install", "--yes"], "is not a JSON object"),
        ("{}", ["--install"], "fix: ccproxy statusline --install --yes"),
        ("{}", ["--install", "--uninstall"], "cannot be combined"),
    ],
)
def test_mistakes_change_nothing(text, args, words, settings, demo, process):
    settings.write_text(text)
    done = process("statusline", *args)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert settings.read_text() == text


def test_settings_that_change_while_the_user_is_asked_are_kept(settings, demo):
    terminal = Terminal("statusline", "--install")
    terminal.wait_for("Change statusLine in")
    settings.write_text(json.dumps({"statusLine": OWN, "theme": "light"}))
    terminal.type("y\n")
    assert terminal.end() == 0, terminal.seen
    assert read(settings)["theme"] == "light"
    assert "--wrap" in read(settings)["statusLine"]["command"]


def test_the_line_is_printed(demo, process):
    assert process("statusline").stdout == ""
