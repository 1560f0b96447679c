"""Output to the terminal: encodings, colors, paths and widths."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from ccproxy.cli.render import terminal
from ccproxy.cli.render.terminal import short_path, tilde
from ccproxy.files import display_path


def test_paths_are_shown_relative_to_home_and_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert tilde(tmp_path / "a" / "b") == "~/a/b"
    assert tilde(Path("/etc/x")) == "/etc/x"
    assert short_path(tmp_path / "a") == "a"
    (tmp_path / "c").mkdir()
    monkeypatch.chdir(tmp_path / "c")
    assert short_path(tmp_path / "a") == "~/a"
    assert short_path(Path("relative")) == "relative"


def test_from_the_root_paths_are_absolute(monkeypatch):
    monkeypatch.chdir("/")
    monkeypatch.setenv("HOME", "/")
    assert tilde(Path("/srv/x.toml")) == "/srv/x.toml"
    assert short_path(Path("/srv/x.toml")) == "/srv/x.toml"
    assert display_path(Path("/srv/x.toml")) == Path("/srv/x.toml")


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "● a · ✓ …\n"),
        ("UTF8", "● a · ✓ …\n"),
        ("ascii", "* a - + ...\n"),
        ("latin-1", "* a - + ...\n"),
        ("cp1252", "* a - + ...\n"),
    ],
)
def test_marks_fit_the_encoding(encoding, expected, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding, newline="\n"))
    terminal.show("● a · ✓ …")
    assert raw.getvalue().decode(encoding) == expected


def test_letters_that_the_encoding_lacks_are_replaced(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii", newline="\n"))
    terminal.show("größe")
    assert raw.getvalue() == b"gr??e\n"


@pytest.mark.parametrize(
    ("environ", "no_color", "expected"),
    [
        ({}, False, None),
        ({"NO_COLOR": ""}, False, None),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, None),
        ({"CLICOLOR_FORCE": "1", "TERM": "dumb"}, False, True),
        ({"TERM": "dumb"}, False, False),
        ({"FORCE_COLOR": "1"}, True, False),
    ],
)
def test_wants_color(environ, no_color, expected):
    assert terminal.wants_color(environ, no_color=no_color) is expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [("80", 80), ("40", 60), ("200", 200), ("x", None), ("0", None), ("", None)],
)
def test_output_without_a_terminal_has_no_width_unless_columns_is_set(
    environ, expected, monkeypatch
):
    monkeypatch.setenv("COLUMNS", environ)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setattr("os.get_terminal_size", no_terminal)
    assert terminal.columns() == expected


def no_terminal(_fd: int = 1) -> os.terminal_size:
    raise OSError
