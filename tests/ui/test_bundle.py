"""Rules for the page's files: no build step, no inline code, no other hosts, two languages."""

from __future__ import annotations

import hashlib
import re
import tomllib
from typing import get_args

import pytest

from ccproxy.convert.errors.causes import Cause
from ccproxy.ipc.activity import CacheCause, RequestState
from ccproxy.keys.display import KeyStatus
from ccproxy.supervisor.fleet.plan import Phase
from ccproxy.ui.browser_guard import OPEN_PATHS
from ccproxy.ui.bundle import FOLDER, static_files
from tests.architecture import ROOT

FILES = static_files()
OWN = {path: file.content.decode() for path, file in FILES.items() if "/vendor/" not in path}
SCRIPTS = {path: text for path, text in OWN.items() if path.endswith(".js")}
_ENTRY = re.compile(r'^  (\w+): \["(.*)", "(.*)"\],$', re.MULTILINE)
TEXTS = {name: (english, chinese) for name, english, chinese in _ENTRY.findall(OWN["/strings.js"])}
DYNAMIC = ("cause_", "state_", "next_", "rule_", "by_", "level_", "phase_")
"""Texts with names that the code assembles."""


@pytest.mark.parametrize("path", [path for path in OWN if path.endswith(".html")])
def test_pages_have_no_inline_code(path):
    page = OWN[path]
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page) == []


@pytest.mark.parametrize("path", SCRIPTS)
def test_scripts_neither_evaluate_nor_write_markup(path):
    words = r"\beval\(|new Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write"
    assert re.findall(words + r"|dangerouslySetInnerHTML|style=", SCRIPTS[path]) == []


@pytest.mark.parametrize("path", OWN)
def test_nothing_is_loaded_from_elsewhere(path):
    urls = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`)]*", OWN[path])
    assert [url for url in urls if "www.w3.org" not in url] == []


@pytest.mark.parametrize("path", SCRIPTS)
def test_imports_exist(path):
    folder = (FOLDER / path[1:]).parent
    for name in re.findall(r'from "(\.[^"]+)"', SCRIPTS[path]):
        assert (folder / name).is_file(), name


def test_every_text_is_in_both_languages():
    assert len(TEXTS) > 200
    for english, chinese in TEXTS.values():
        assert english
        assert chinese
        assert set(re.findall(r"{\w+}", english)) == set(re.findall(r"{\w+}", chinese))


def test_every_text_that_is_used_exists_and_no_other():
    everything = "\n".join(text for path, text in SCRIPTS.items() if path != "/strings.js")
    used = set(re.findall(r'\bt\("(\w+)"', everything))
    assert used - set(TEXTS) == set()
    named = set(re.findall(r'"(\w+)"|\b(\w+): [A-Z0-9]', everything))
    quoted = {name for pair in named for name in pair}
    unused = {name for name in TEXTS if name not in quoted and not name.startswith(DYNAMIC)}
    assert unused == set()


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("state", [*get_args(RequestState), *get_args(KeyStatus), *(one.value for one in Phase)]),
        ("cause", [*get_args(CacheCause), *(one.value for one in Cause)]),
    ],
)
def test_every_state_and_cause_has_a_text(kind, names):
    assert {f"{kind}_{name.replace('-', '_')}" for name in names} <= set(TEXTS)


def test_vendored_files_are_those_of_the_record():
    record = (ROOT / "THIRD_PARTY.md").read_text()
    vendored = {path for path in FILES if path.startswith("/vendor/")}
    for path in vendored:
        digest = hashlib.sha256(FILES[path].content).hexdigest()
        assert f"`{path.rpartition('/')[2]}` | `{digest}`" in record, path


def test_the_wheel_contains_every_file():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["ccproxy"]
    packed = {path for pattern in patterns for path in (ROOT / "ccproxy").glob(pattern)}
    assert {FOLDER / path[1:] for path in FILES} <= packed


def test_every_open_file_exists():
    assert OPEN_PATHS - {"/", "/session"} <= set(FILES)
