"""`ccproxy history`: showing, clearing, exporting and importing turns."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import urllib.request

import pytest

from ccproxy.store.history import Turn, add_new_turns, read_turns
from tests.cli.conftest import command, port_of, write_env

TURNS = [
    Turn(1767225600.0, "user", "Hi\nyou \x1b[31m", "kimi-k3"),
    Turn(1767225601.0, "assistant", "Hello", "kimi-k3"),
]


@pytest.fixture
def filled(home):
    add_new_turns(home / "state", "Kimi-K2", TURNS)
    return home


def test_showing(filled, ccproxy):
    done = ccproxy("history", "kimi-k2")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "2026-01-01 00:00:00  user",
        "  Hi",
        "  you \\x1b[31m",
        "2026-01-01 00:00:01  assistant (kimi-k3)",
        "  Hello",
    ]


def test_showing_the_last_as_json(filled, ccproxy):
    done = ccproxy("history", "-n", "1", "--json")
    (line,) = done.stdout.splitlines()
    assert json.loads(line) == {
        "label": "Kimi-K2",
        "timestamp": "2026-01-01T00:00:01.000+00:00",
        "role": "assistant",
        "content": "Hello",
        "model_used": "kimi-k3",
    }


def test_without_turns_the_setting_that_records_them_is_named(home, ccproxy):
    done = ccproxy("history")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "HISTORY=on" in done.stderr


def test_an_export_can_be_imported(filled, ccproxy):
    done = ccproxy("history", "kimi-k2", "export", "talk.jsonl")
    assert done.stdout == "Wrote 2 turns of Kimi-K2 to exports/talk.jsonl.\n"
    assert ccproxy("history", "kimi-k2", "clear", "--yes").stdout == "Deleted 2 turns of Kimi-K2.\n"
    assert read_turns(filled / "state", "Kimi-K2") == []
    assert ccproxy("history", "glm-4.6", "import", "talk.jsonl").exit_code == 0
    assert read_turns(filled / "state", "GLM-4.6") == TURNS
    again = ccproxy("history", "glm-4.6", "import", "talk.jsonl")
    assert again.stdout == "Added 0 turns to GLM-4.6.\n"


def test_nothing_is_overwritten(filled, ccproxy):
    ccproxy("history", "kimi-k2", "export", "x")
    done = ccproxy("history", "kimi-k2", "export", "x")
    assert done.exit_code == 1
    assert done.stderr == (
        "Error: exports/x exists\n  fix: choose another name, or remove the file: rm exports/x\n"
    )


@pytest.mark.parametrize(
    ("words", "typed", "report", "remaining"),
    [
        pytest.param([], "y\n", "Deleted 2 turns of Kimi-K2.\n", [], id="yes"),
        pytest.param([], "n\n", "", TURNS, id="no"),
        pytest.param([], "\n", "", TURNS, id="nothing means no"),
        pytest.param(["--yes"], "", "Deleted 2 turns of Kimi-K2.\n", [], id="not asked"),
    ],
)
def test_at_a_terminal_deletion_is_confirmed(filled, words, typed, report, remaining):
    ours, theirs = pty.openpty()
    os.write(ours, typed.encode())
    done = subprocess.run(
        command("history", "kimi-k2", "clear", *words),
        stdin=theirs,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(theirs)
    os.close(ours)
    assert (done.stdout, done.returncode) == (report, 0 if report else 130)
    assert ("Nothing was changed." in done.stderr) is not bool(report)
    assert ("This cannot be undone." in done.stderr) is not bool(words)
    assert read_turns(filled / "state", "Kimi-K2") == remaining


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("history", ["history", "kimi-k2"]),
        ("history", ["history", "kimi-k2", "export", "x"]),
        ("history", ["cleanup", "--dry-run"]),
        ("usage", ["usage"]),
    ],
)
def test_a_damaged_file_is_reported(home, ccproxy, name, words):
    (home / "state").mkdir()
    (home / f"state/{name}.sqlite3").write_bytes(b"nonsense" * 1000)
    done = ccproxy(*words)
    assert done.exit_code == 1
    assert f"{name}.sqlite3 cannot be read" in done.stderr
    assert "fix: " in done.stderr


@pytest.mark.parametrize(
    ("words", "report"),
    [
        (["kimi-k2", "export"], "the file name is missing"),
        (["kimi-k2", "export", "../x"], "not the name of a file"),
        (["kimi-k2", "import", "/etc/passwd"], "not the name of a file"),
        (["nobody"], "is not in the table"),
        (["kimi-k2", "burn"], "burn"),
    ],
)
def test_invalid_arguments_are_refused(filled, ccproxy, words, report):
    done = ccproxy("history", *words)
    assert done.exit_code == 2
    assert report in done.stderr


def test_without_a_terminal_nothing_is_deleted_unless_confirmed(filled, ccproxy):
    done = ccproxy("history", "kimi-k2", "clear", input="")
    assert done.exit_code == 2
    assert done.stderr == (
        "Error: stdin is not a terminal, so the command cannot prompt\n"
        "  fix: ccproxy history Kimi-K2 clear --yes\n"
    )
    assert read_turns(filled / "state", "Kimi-K2") == TURNS


@pytest.mark.parametrize("has_client_key", [False, True])
def test_pending_turns_are_flushed_before_they_are_shown(has_client_key, demo, ccproxy, process):
    """The worker writes turns in batches; the command does not wait for the next batch."""
    key = "a-client-key-of-16-characters" if has_client_key else ""
    setting = f"ANTHROPIC_API_KEY={key}\n" if has_client_key else ""
    write_env(demo, "demo", f"PROVIDER=demo\nHISTORY=on\n{setting}")
    assert process("start", "demo").returncode == 0
    say(port_of(demo, "Demo"), "remember me", key=key)
    assert "  remember me\n" in ccproxy("history", "demo").stdout


def test_recording_is_switched_on_and_off_in_a_running_proxy(demo, ccproxy, process):
    assert process("start", "demo").returncode == 0
    assert (
        ccproxy("history", "demo", "on").stdout == "Recording Demo conversations (kept 3 days).\n"
    )
    port = port_of(demo, "Demo")
    assert process("restart", "demo").returncode == 0
    assert "history   recorded" in ccproxy("-v", "status", "demo").stdout
    for _ in range(2):
        say(port, "remember me")
        assert ccproxy("history", "demo", "off").stdout == "Not recording Demo conversations.\n"
    result = [turn.content for turn in read_turns(demo / "state", "Demo")]
    assert result.count("remember me") == 1
    assert len(result) == 2


def say(port, text, *, key=""):
    body = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": text}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/messages",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **({"x-api-key": key} if key else {})},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200
