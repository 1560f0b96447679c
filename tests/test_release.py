"""A release has one version everywhere, and a changelog in the form of Keep a Changelog."""

from __future__ import annotations

import json
import re

from ccproxy import __version__
from tests.fleet import ROOT

TEXT = (ROOT / "CHANGELOG.md").read_text()
KINDS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]


def test_the_changelog_has_a_section_for_this_version():
    headings = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d", headings[1])


def test_changes_are_grouped_by_kind():
    for section in TEXT.split("\n## ")[1:]:
        kinds = re.findall(r"^### (.+)$", section, re.MULTILINE)
        assert kinds == [kind for kind in KINDS if kind in kinds], section.partition("\n")[0]
        entries = re.findall(r"^- .+(?:\n  .+)*$", section, re.MULTILINE)
        assert len(entries) == len(set(entries))


def test_the_pane_has_the_version_of_the_package():
    plugin = ROOT / "ccproxy/cli/session/pane/.claude-plugin/plugin.json"
    assert json.loads(plugin.read_text())["version"] == __version__
