"""`ccproxy logs`: past lines from all archives, and new lines across rotations."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.conftest import command


def line(event, *, ago=0.0, level="info", **fields):
    at = (datetime.now(UTC) - timedelta(seconds=ago)).isoformat(timespec="milliseconds")
    return json.dumps({"time": at, "level": level, "event": event, **fields}) + "\n"


def write(home, name, *lines):
    file = home / "logs" / name
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as stream:
        stream.write("".join(lines))
    return file


def events(result):
    """Return the events in the lines of --json."""
    return [json.loads(output)["event"] for output in result.stdout.splitlines()]


# The past.


@pytest.fixture
def logs(home):
    write(home, "Kimi-K2.log.20260101_000000", line("oldest", ago=400), line("older", ago=300))
    write(home, "Kimi-K2.log.20260102_000000", line("old", ago=200))
    write(home, "Kimi-K2.log", line("new", ago=20, level="warning"), line("newest", ago=1))
    write(home, "GLM-4.6.log", line("other", ago=10, level="error", request="req_1c5a"))
    write(home, "supervisor.log", line("fleet", ago=5))
    write(home, "Kimi-K2.log.notes", "not ours\n")
    return home


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        pytest.param(
            [],
            ["oldest", "older", "old", "new", "other", "newest"],
            id="all labels in order of time",
        ),
        pytest.param(["kimi-k2", "-n", "3"], ["old", "new", "newest"], id="over archives"),
        pytest.param(["glm*"], ["other"], id="by pattern"),
        pytest.param(["-n", "0"], [], id="none"),
        pytest.param(["--since", "1m"], ["new", "other", "newest"], id="by age"),
        pytest.param(["--since", "250s", "-n", "2"], ["other", "newest"], id="by age and count"),
        pytest.param(["--level", "warn"], ["new", "other"], id="by level"),
        pytest.param(["--level", "error"], ["other"], id="by a higher level"),
        pytest.param(["--request", "1c5a"], ["other"], id="by request"),
        pytest.param(["--request", "zzzz"], [], id="an unknown request"),
        pytest.param(["supervisor"], ["fleet"], id="the supervisor"),
        pytest.param(["supervisor", "glm-4.6"], ["other", "fleet"], id="supervisor and worker"),
    ],
)
def test_filters_select_lines(args, expected, logs, ccproxy):
    result = ccproxy("logs", "--json", *args)
    assert result.exit_code == 0
    assert events(result) == expected


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], ["oldest", "older", "old", "new", "other", "newest"]),
        (["kimi-k2", "-n", "2"], ["new", "newest"]),
        (["supervisor"], ["fleet"]),
    ],
)
def test_a_broken_table_hides_no_log(args, expected, logs, ccproxy):
    (logs / "ccproxy.toml").write_text("this is not TOML\n")
    write(logs, "GLM-4.6.2.log")
    result = ccproxy("logs", "--json", *args)
    assert events(result) == expected
    assert result.exit_code == 78
    assert "ccproxy.toml:1" in result.stderr


def test_several_processes_of_a_worker_are_one_log(home, ccproxy):
    write(home, "Kimi-K2.log", line("a", ago=3), line("c", ago=1))
    write(home, "Kimi-K2.2.log", line("b", ago=2))
    assert events(ccproxy("logs", "--json", "kimi-k2")) == ["a", "b", "c"]


def test_lines_are_formatted_for_people(home, ccproxy):
    at = datetime.now().replace(hour=9, minute=14, second=2, microsecond=0).astimezone()
    text = {"time": at.isoformat(), "level": "warning", "event": "key.rested", "key": "…9f2c"}
    write(home, "Kimi-K2.log", json.dumps({**text, "seconds": 41, "why": "too many requests"}))
    assert ccproxy("logs", "kimi-k2").stdout == (
        '09:14:02 WARNING  key.rested key=…9f2c seconds=41 why="too many requests"\n'
    )
    assert "09:14:02 WARNING  Kimi-K2  key.rested" in ccproxy("logs").stdout


REQUEST = {
    "request": "req_1",
    "method": "POST",
    "path": "/v1/messages",
    "status": 200,
    "ms": 108.3,
    "requested": "claude-opus-4-8",
    "model": "deepseek-v4-pro",
    "key": "…6666",
    "stream": True,
    "attempts": 1,
    "tokens": {"input": 0, "output": 13, "cache_read": 5965, "cache_write": 0},
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            {"answered_by": "DeepSeek"},
            "Kimi-K2 → DeepSeek 200 108 ms deepseek-v4-pro …6666 5965 in (5965 cached) 13 out",
            id="answered by another proxy",
        ),
        pytest.param(
            {"tokens": {"input": 900, "output": 7, "cache_read": 100, "cache_write": 24}},
            "Kimi-K2 200 108 ms deepseek-v4-pro …6666 1024 in (100 cached) 7 out",
            id="input includes cached tokens",
        ),
        pytest.param(
            {"status": 429, "tokens": {}, "error": "rate_limit_error", "reason": "slow down"},
            "Kimi-K2 429 108 ms deepseek-v4-pro …6666 rate_limit_error: slow down",
            id="an error with its reason",
        ),
        pytest.param(
            {"tokens": "many", "ms": None, "status": "?", "key": None},
            "Kimi-K2 ? deepseek-v4-pro",
            id="fields of another type",
        ),
    ],
)
def test_a_request_takes_one_line_and_verbose_shows_the_rest(fields, expected, home, ccproxy):
    write(home, "Kimi-K2.log", line("request.finished", **{**REQUEST, **fields}))
    write(home, "GLM-4.6.log")
    result = ccproxy("logs")
    assert result.exit_code == 0
    assert result.stdout[9:] == f"{expected}\n"
    assert "attempts=1" in ccproxy("-v", "logs").stdout
    assert "Kimi-K2" not in ccproxy("logs", "kimi-k2").stdout.partition(" →")[0] or fields.get(
        "answered_by"
    )


def test_a_request_without_a_model_shows_its_path(home, ccproxy):
    fields = {"method": "GET", "path": "/v1/models", "status": 404, "ms": 2}
    write(home, "Kimi-K2.log", line("request.finished", **fields))
    assert ccproxy("logs", "kimi-k2").stdout[9:] == "GET /v1/models 404 2 ms\n"


def test_a_line_that_is_not_json_follows_its_predecessor(home, ccproxy):
    write(home, "Kimi-K2.log", line("a", ago=3), "Traceback (most recent call last):\n")
    write(home, "GLM-4.6.log", line("b", ago=2))
    output = ccproxy("logs").stdout.splitlines()
    assert [text.split("  ", 1)[-1].split()[-1] for text in output] == ["a", "last):", "b"]


@pytest.mark.parametrize(
    "evil",
    [
        pytest.param("\x1b[2Jgone", id="escape sequences"),
        pytest.param("\x9b31m", id="8-bit escape sequences"),
        pytest.param("a\rb\x08", id="overwriting"),
        pytest.param("\u202eevil\u2066", id="turned writing direction"),
        pytest.param("a\u2028b", id="other line ends"),
    ],
)
@pytest.mark.parametrize("how", [[], ["--json"]])
def test_control_characters_are_escaped(evil, how, home, ccproxy):
    raw = json.dumps({"event": evil, evil: evil, "level": evil}, ensure_ascii=False)
    at = json.dumps(
        {"time": datetime.now(UTC).isoformat(), "event": evil, "level": "info", "x": evil}
    )
    write(home, "Kimi-K2.log", evil.replace("\r", "") + "\n", raw + "\n", at + "\n")
    output = ccproxy("logs", "kimi-k2", *how).stdout
    assert output.count("\n") == 3
    assert all(text.isprintable() for text in output.split("\n"))


def test_no_matching_lines(home, ccproxy):
    result = ccproxy("logs")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No matching log lines in logs." in result.stderr
    assert ccproxy("-q", "logs").stderr == ""


def test_an_unknown_label(home, ccproxy):
    result = ccproxy("logs", "kimi-k3")
    assert result.exit_code == 2
    assert 'did you mean "Kimi-K2"?' in result.stderr


def test_follow_shows_past_and_future_across_a_rotation(home):
    file = write(home, "Kimi-K2.log", line("past"))
    child = subprocess.Popen(
        command("logs", "-f", "--json", "--level", "info"), stdout=subprocess.PIPE, text=True
    )
    with child, child.stdout as output:
        try:
            assert json.loads(output.readline())["event"] == "past"
            write(home, "Kimi-K2.log", line("hidden", level="debug"), line("now"))
            assert json.loads(output.readline())["event"] == "now"
            file.rename(home / "logs" / "Kimi-K2.log.20260101_000000")
            write(home, "Kimi-K2.log", line("later"))
            write(home, "GLM-4.6.log", line("other"))
            assert {json.loads(output.readline())["event"] for _ in range(2)} == {"later", "other"}
        finally:
            child.send_signal(2)
    assert child.returncode == 130


def test_a_named_pipe_among_the_logs_does_not_block(home, ccproxy):
    write(home, "Kimi-K2.log", line("a"))
    os.mkfifo(home / "logs" / "Kimi-K2.2.log")
    assert events(ccproxy("logs", "--json", "kimi-k2")) == ["a"]
