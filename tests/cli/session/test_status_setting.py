"""The `statusLine` setting: ccproxy's command, which contains the user's."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from ccproxy.cli.session.status_setting import (
    status_command,
    status_program,
    status_setting,
    wrapped_command,
)

PROGRAM = status_program("/venv/bin/python", Path("/home/u/my fleet"), "Kimi")


def test_the_program_is_one_shell_command():
    words = shlex.split(PROGRAM)
    assert words == [
        *("/venv/bin/python", "-P", "-m", "ccproxy.statusline"),
        *("--home", "/home/u/my fleet", "--label", "Kimi"),
    ]


def test_without_the_users_line_only_ours_is_shown():
    assert status_setting(PROGRAM)["command"] == PROGRAM


def test_the_users_command_is_wrapped_and_its_options_are_kept():
    own = {"type": "command", "command": "echo 'it''s'", "padding": 2, "refreshInterval": 60}
    result = status_setting(PROGRAM, own)
    assert (result["padding"], result["refreshInterval"]) == (2, 60)
    assert wrapped_command(result["command"]) == own["command"]


def test_our_own_command_is_not_wrapped_again():
    installed = status_setting(PROGRAM)
    assert status_setting(PROGRAM, installed)["command"] == PROGRAM
    around = status_setting(PROGRAM, {"type": "command", "command": "mine"})
    assert status_setting(PROGRAM, around)["command"] == around["command"]


@pytest.mark.parametrize(
    "setting", [None, [], {}, {"type": "command"}, {"type": "command", "command": 3}, "x"]
)
def test_other_settings_are_not_commands(setting):
    assert status_command(setting) is None
