"""README matches the code: its tables, its commands and its links."""

from __future__ import annotations

import re

import pytest

from ccproxy.cli.command import commands
from tests.readme import README, TABLES, written

VERBS = list(commands())
TEXT = README.read_text(encoding="utf-8")
COMMANDS = sorted(
    {
        a or b
        for a, b in re.findall(r"`ccproxy ([a-z][a-z-]+)|(?m:^)(?:\$ )?ccproxy ([a-z-]+)", TEXT)
    }
)


def test_the_tables_match_the_code():
    assert written(TEXT) == TEXT, "run: python -m tests.readme"


@pytest.mark.parametrize("name", TABLES)
def test_no_table_is_missing(name):
    assert f"<!-- {name} -->\n|" in TEXT


def test_commands_are_found():
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_command_exists(verb):
    assert verb in VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_is_described(verb):
    assert f"ccproxy {verb}" in TEXT


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", TEXT))))
def test_every_linked_file_exists(path):
    assert (README.parent / path).exists()
