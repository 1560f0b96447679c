"""Exports: addressed by name, inside their folder, private, never overwritten."""

from __future__ import annotations

import json
import os
import stat

import pytest

from ccproxy.errors import UsageError
from ccproxy.store.exports import FOLDER, create, export, line_of, load
from ccproxy.store.history import Turn

TURNS = [Turn(0.5, "user", "Hi \u2028 ✓\n", "k2"), Turn(1.5, "assistant", "Hello", "k2")]

PATHS = [
    *("", ".", "..", "/etc/passwd", "../x.jsonl", "a/b.jsonl", "a/../../x", "./x", "~/x", "~"),
    *("$HOME/x", "\\x", "..\\x", "C:\\x", "a\0b", "a\nb", "a b", ".hidden", "-rf", "x/", "//x"),
    *("%2e%2e%2fx", "..%2fx", "file:///x", "http://x/y", "\\\\host\\share", "x;y", "x|y", "a:b"),
    *("a" * 101, "\u2025/x", "\uff0e\uff0e/x", "\uff58", "x\r", "x\n", "a*"),
]


@pytest.mark.parametrize("name", PATHS, ids=ascii)
def test_a_path_is_not_accepted_as_a_name(tmp_path, name):
    home = tmp_path / "home"
    home.mkdir()
    for attempt in (lambda: export(home, name, TURNS), lambda: load(home, name)):
        with pytest.raises(UsageError, match="not the name of a file"):
            attempt()
    assert list(tmp_path.rglob("*")) == [home]


def test_an_export_survives_a_round_trip(tmp_path):
    assert export(tmp_path, "one.jsonl", TURNS) == 2
    assert load(tmp_path, "one.jsonl") == TURNS
    file = tmp_path / FOLDER / "one.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    lines = file.read_bytes().split(b"\n")
    assert [json.loads(line)["role"] for line in lines[:-1]] == ["user", "assistant"]


def test_nothing_is_overwritten(tmp_path):
    export(tmp_path, "one.jsonl", TURNS[:1])
    with pytest.raises(FileExistsError):
        export(tmp_path, "one.jsonl", TURNS)
    assert load(tmp_path, "one.jsonl") == TURNS[:1]


@pytest.mark.parametrize("planted", ["to a file", "to nothing"])
def test_a_planted_link_is_not_followed(tmp_path, planted):
    (tmp_path / FOLDER).mkdir()
    foreign = tmp_path / "foreign"
    if planted == "to a file":
        foreign.write_bytes(line_of(TURNS[0]))
    (tmp_path / FOLDER / "x").symlink_to(foreign)
    with pytest.raises(FileExistsError):
        create(tmp_path, "x")
    with pytest.raises(OSError, match="symbolic"):
        load(tmp_path, "x")
    assert foreign.exists() == (planted == "to a file")


def test_a_planted_folder_is_not_followed(tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    (home / FOLDER).symlink_to(foreign)
    with pytest.raises(OSError, match=r"directory|symbolic"):
        export(home, "x", TURNS)
    assert list(foreign.iterdir()) == []


def test_only_regular_files_are_read(tmp_path):
    (tmp_path / FOLDER).mkdir()
    os.mkfifo(tmp_path / FOLDER / "pipe")
    with pytest.raises(UsageError, match="is not a file"):
        load(tmp_path, "pipe")
    with pytest.raises(FileNotFoundError):
        load(tmp_path, "missing")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("nonsense", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ('{"role":"system","content":"x","timestamp":1}', "not a turn"),
        ('{"role":"user","content":5,"timestamp":1}', "not a turn"),
        ('{"role":"user","content":"x","model_used":5,"timestamp":1}', "not a turn"),
        ('{"role":"user","content":"x"}', "missing"),
        ('{"role":"user","content":"x","timestamp":"noon"}', "not a time"),
        ('{"role":"user","content":"x","timestamp":1e300}', "not a time"),
        ('{"role":"user","content":"x","timestamp":NaN}', "missing"),
        ('{"role":"user","content":"","timestamp":"9999-12-31T23:00:00-14:00"}', "not a time"),
    ],
)
def test_an_invalid_line_is_reported_and_nothing_is_imported(tmp_path, line, expected):
    export(tmp_path, "x", TURNS[:1])
    with (tmp_path / FOLDER / "x").open("a") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(UsageError, match=rf"x:3.*{expected}"):
        load(tmp_path, "x")


def test_lone_surrogates_are_replaced(tmp_path):
    export(tmp_path, "x", [])
    turn = r'{"role":"user","content":"a\ud800b","model_used":"\udfff","timestamp":1}'
    (tmp_path / FOLDER / "x").write_text(turn)
    assert load(tmp_path, "x") == [Turn(1.0, "user", "a?b", "?")]


def test_forms_of_earlier_programs_are_read(tmp_path):
    export(tmp_path, "x", [])
    (tmp_path / FOLDER / "x").write_text(
        '{"timestamp":"2026-01-01T00:00:00","role":"user","content":"x"}\n'
        '{"timestamp":1767225600,"role":"assistant","content":"y","model_used":null}\n'
    )
    assert load(tmp_path, "x") == [
        Turn(1767225600.0, "user", "x", ""),
        Turn(1767225600.0, "assistant", "y", ""),
    ]


def test_an_export_on_a_full_disk_leaves_no_part_and_can_be_repeated(tmp_path, disk_limit):
    many = [Turn(1.0, "user", "x" * 100, "k2")] * 1000
    with disk_limit(20_000), pytest.raises(OSError, match="File too large"):
        export(tmp_path, "one.jsonl", many)
    assert list((tmp_path / FOLDER).iterdir()) == []
    assert export(tmp_path, "one.jsonl", many) == 1000
