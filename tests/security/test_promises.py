"""SECURITY.md is consistent with the tests and the installed packages."""

from __future__ import annotations

import re
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from tests.fleet import ROOT

TEXT = (ROOT / "SECURITY.md").read_text()
MOST_PACKAGES = 20
NOT_EVERYWHERE = {"setproctitle", "typing-extensions"}


def closure(name: str) -> set[str]:
    """Return all dependencies of *name* on this Python, without extras."""
    result: set[str] = set()
    todo = [name]
    while todo:
        for text in metadata.requires(todo.pop()) or ():
            expected = Requirement(text)
            key = re.sub(r"[-_.]+", "-", expected.name).lower()
            is_meant = expected.marker is None or expected.marker.evaluate({"extra": ""})
            if is_meant and key not in result:
                result.add(key)
                todo.append(expected.name)
    return result


def listed() -> dict[str, str]:
    _, _, table = TEXT.partition("## Run-time dependencies")
    return dict(re.findall(r"^\| ([a-z0-9-]+) \| (.+) \|$", table, re.MULTILINE)[1:])


def test_every_package_that_is_installed_has_a_reason():
    assert all(len(reason) > 3 for reason in listed().values())
    assert set(listed()) - closure("ccproxy-fleet") <= NOT_EVERYWHERE
    assert closure("ccproxy-fleet") <= set(listed())
    assert len(listed()) <= MOST_PACKAGES


NAMED = re.findall(r"`((?:tests/)?[a-z_/]*test_\w+\.py)(?:::(\w+))?`", TEXT)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_named_tests_exist(file, name):
    path = ROOT / (file if file.startswith("tests/") else f"tests/security/{file}")
    assert path.is_file()
    assert not name or re.search(rf"^(async )?def {name}\(", path.read_text(), re.MULTILINE)


def test_every_row_names_a_test():
    rows = [row for row in TEXT.splitlines() if row.startswith("| ") and row.count("|") == 5]
    assert len(rows) >= 15
    for row in rows[1:]:
        assert "test_" in row.split("|")[4], row
