"""What reaches a person's eyes."""

from __future__ import annotations

import io
from pathlib import Path

import click
import pytest

from ccproxy.cli.durations import SPAN
from ccproxy.cli.render import terminal
from ccproxy.cli.render.terminal import clean, counted, duration, near, size, tilde
from ccproxy.config.fleet import shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.9, "0s"),
        (-5, "0s"),
        (41, "41s"),
        (60, "1m"),
        (75, "1m 15s"),
        (3600, "1h"),
        (7800, "2h 10m"),
        (86400, "1d"),
        (273600, "3d 4h"),
        (8640000, "100d"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "2 kB"), (41_000_000, "41 MB"), (5e15, "5000 TB")],
)
def test_size(count, text):
    assert size(count) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 keys"), (1, "1 key"), (3, "3 keys")])
def test_counted(count, text):
    assert counted(count, "key") == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("ünï 你好 🎉", "ünï 你好 🎉"),
        ("a\tb", "a\tb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\x9b31m", "\\x9b31m"),
        ("a\r\nb", "a\\r\\nb"),
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
        ("a\u2028b", "a\\u2028b"),
        ("\x07\x00\x7f", "\\x07\\x00\\x7f"),
    ],
)
def test_clean(text, expected):
    assert clean(text) == expected


def test_paths_as_a_person_writes_them(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert tilde(tmp_path / "a" / "b") == "~/a/b"
    assert tilde(Path("/etc/x")) == "/etc/x"
    assert near(tmp_path / "a") == "a"
    (tmp_path / "c").mkdir()
    monkeypatch.chdir(tmp_path / "c")
    assert near(tmp_path / "a") == "~/a"
    assert near(Path("relative")) == "relative"


def test_from_the_root_a_path_is_written_whole(monkeypatch):
    monkeypatch.chdir("/")
    assert near(Path("/srv/x.toml")) == "/srv/x.toml"
    assert shown(Path("/srv/x.toml")) == Path("/srv/x.toml")


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
def test_signs_fit_the_encoding(encoding, expected, monkeypatch):
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
    ("columns", "expected"), [("80", 80), ("40", 60), ("200", 200), ("x", 120), ("0", 120)]
)
def test_the_width_is_never_under_60(columns, expected, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert terminal.width() == expected


# Lengths of time.


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15", 15),
        ("15s", 15),
        ("0", 0),
        ("500ms", 0.5),
        ("1.5m", 90),
        ("10m", 600),
        ("12h", 43200),
        ("3d", 259200),
        ("2W", 1209600),
        (" 1 h", 3600),
    ],
)
def test_spans(text, seconds):
    assert SPAN.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5s", "5y", "1e9", "nan", "inf", "10m5s", "9" * 12])
def test_what_is_no_span(text):
    with pytest.raises(click.BadParameter, match="is not a length of time"):
        SPAN.convert(text, None, None)
