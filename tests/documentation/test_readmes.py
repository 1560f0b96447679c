"""README is short and correct; its Chinese version has the same sections, commands and links."""

from __future__ import annotations

import re

import pytest

from ccproxy.cli.command import ALIASES, commands
from ccproxy.config.settings import NAMES
from ccproxy.providers.presets import load_presets
from tests.documentation.blocks import blocks, ccproxy_calls
from tests.documentation.test_commands import assert_accepted
from tests.fleet import ROOT

ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
READMES = pytest.mark.parametrize("readme", [ENGLISH, CHINESE], ids=["english", "chinese"])
MOST_LINES = 150
DAILY = ("run", "status", "reload", "logs", "top", "ui", "requests", "keys", "switch", "doctor")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_TERM = re.compile(r"`([^`]+)`")


def prose(readme) -> str:
    """Return the text outside of the fenced blocks."""
    return _FENCE.sub("", readme.read_text(encoding="utf-8"))


def outline(readme) -> list[str]:
    """Return the kind of each block of the page, in order."""
    kinds = []
    for line in _FENCE.sub("```", readme.read_text(encoding="utf-8")).splitlines():
        kind = re.match(r"#+ |```|!\[|\| |- ", line)
        if kind:
            kinds.append(f"| × {line.count('|')}" if kind[0] == "| " else kind[0])
    return kinds


def commands_of(readme) -> list[str]:
    """Return the commands and settings in the fenced blocks, without comments."""
    lines = "\n".join(blocks(readme, "sh", "toml", "ini")).splitlines()
    texts = (re.sub(r"(^|\s)#.*", "", line).strip() for line in lines)
    return [text for text in texts if text]


def links(readme) -> list[str]:
    """Return the targets of the links, in order; the two versions name each other."""
    targets = re.findall(r"\]\(([^)]+)\)", readme.read_text(encoding="utf-8"))
    return [target for target in targets if not target.startswith("README")]


@READMES
def test_readme_is_short(readme):
    assert len(readme.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@READMES
def test_commands_in_readme_exist(readme):
    named = re.findall(r"`ccproxy ([a-z][a-z-]+)", prose(readme))
    assert {ALIASES.get(name, name) for name in named} <= set(commands())
    for words in ccproxy_calls("\n".join(blocks(readme, "sh"))):
        assert_accepted(words)


@READMES
@pytest.mark.parametrize("name", DAILY)
def test_daily_commands_are_described(readme, name):
    assert f"ccproxy {name}" in readme.read_text(encoding="utf-8")


@READMES
def test_settings_in_readme_exist(readme):
    named = re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", prose(readme))
    named += re.findall(r"^([A-Z_]+)=", "\n".join(blocks(readme, "ini")), re.MULTILINE)
    assert named
    assert set(named) <= set(NAMES)


@READMES
def test_example_files_in_readme_exist(readme):
    text = "\n".join(blocks(readme, "sh", "toml", "ini"))
    presets = re.findall(r"--preset ([\w-]+)", text) + re.findall(r"^PROVIDER=(.+)", text, re.M)
    assert set(presets) <= set(load_presets())
    assert all((ROOT / name).exists() for name in re.findall(r"envs/[\w-]+\.env\.example", text))


def test_readme_names_make_run_and_make_test():
    text = ENGLISH.read_text(encoding="utf-8")
    assert re.search(r"^make run\b", text, re.MULTILINE)
    assert "`make test`" in text


@READMES
def test_figures_match_the_performance_page(readme):
    section = prose(readme).split("\n## ")[6]
    figures = set(re.findall(r"\d[\d.,–]*\d|\d", re.sub(r"\(.*?\)", "", section)))
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    assert len(figures) >= 8
    assert [figure for figure in figures if figure not in page] == []


def test_both_readmes_have_the_same_sections_and_tables():
    assert outline(CHINESE) == outline(ENGLISH)


def test_both_readmes_have_the_same_commands_and_settings():
    assert commands_of(CHINESE) == commands_of(ENGLISH)
    assert set(_TERM.findall(prose(CHINESE))) == set(_TERM.findall(prose(ENGLISH)))


def test_both_readmes_have_the_same_links_and_figures():
    assert links(CHINESE) == links(ENGLISH)
    table_rows = re.compile(r"\d+(?:[.,–]\d+)*")
    figures = [
        sorted(table_rows.findall(prose(readme).split("## ", 6)[-1]))
        for readme in (ENGLISH, CHINESE)
    ]
    assert figures[0] == figures[1]
