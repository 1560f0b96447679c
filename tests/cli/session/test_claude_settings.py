"""Claude Code's settings files: conflicts with a session, and the file that `run` passes."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from ccproxy.cli.session.claude_environment import Limits, find_limits, session
from ccproxy.cli.session.claude_settings import (
    effective_environment,
    find_conflicts,
    read_settings_files,
    saved_model,
    session_settings,
    split_settings_argument,
    write_session_settings,
)
from ccproxy.config.fleet import Entry
from ccproxy.config.worker_config import load_worker
from ccproxy.errors import UsageError

ENTRY = Entry(port=8082, env_file=Path("kimi.env"), label="Kimi")
OPENAI = {
    "PROVIDER_BASE_URL": "http://127.0.0.1:9/v1",
    "PROVIDER_API_KEY": "sk-own-1234567890",
    "BIG_MODEL": "big",
    "SMALL_MODEL": "small",
}
SESSION = {"ANTHROPIC_BASE_URL": "http://x", "ANTHROPIC_API_KEY": None, "API_TIMEOUT_MS": "1"}


def write(file: Path, **settings: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings))


def read(tmp_path: Path, **environ: str):
    environ = {"HOME": str(tmp_path / "home"), **environ}
    return read_settings_files(environ, tmp_path / "project")


def conflicts(tmp_path: Path, values=SESSION, **environ: str) -> list[tuple[str, str]]:
    result = find_conflicts(values, read(tmp_path, **environ))
    return [(str(one.file.path.relative_to(tmp_path)), one.variable) for one in result]


# Reading.


def test_each_file_and_variable_that_overrides_the_session_is_named(tmp_path):
    user = {"ANTHROPIC_BASE_URL": "http://y", "X": "1"}
    write(tmp_path / "home/.claude/settings.json", env=user)
    write(tmp_path / "project/.claude/settings.json", env={"ANTHROPIC_API_KEY": "k"})
    write(tmp_path / "project/.claude/settings.local.json", env={"API_TIMEOUT_MS": 5})
    assert conflicts(tmp_path) == [
        ("home/.claude/settings.json", "ANTHROPIC_BASE_URL"),
        ("project/.claude/settings.json", "ANTHROPIC_API_KEY"),
        ("project/.claude/settings.local.json", "API_TIMEOUT_MS"),
    ]


def test_the_same_value_is_not_a_conflict(tmp_path):
    same = {"ANTHROPIC_BASE_URL": "http://x", "ANTHROPIC_API_KEY": "", "API_TIMEOUT_MS": 1}
    write(tmp_path / "home/.claude/settings.json", env=same)
    assert conflicts(tmp_path) == []


def test_claude_config_dir_replaces_the_users_folder(tmp_path):
    write(tmp_path / "home/.claude/settings.json", env={"API_TIMEOUT_MS": 5})
    write(tmp_path / "other/settings.json", env={"ANTHROPIC_BASE_URL": "http://y"})
    result = conflicts(tmp_path, CLAUDE_CONFIG_DIR=str(tmp_path / "other"))
    assert result == [("other/settings.json", "ANTHROPIC_BASE_URL")]


@pytest.mark.parametrize("text", ["{", "[]", '{"env": 3}', "{}", "\xff", "[" * 100_000])
def test_an_unreadable_file_is_left_to_claude_code(text, tmp_path):
    file = tmp_path / "home/.claude/settings.json"
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="latin-1")
    assert conflicts(tmp_path) == []
    assert saved_model(read(tmp_path)) is None


def test_the_file_with_the_highest_precedence_sets_model_and_variables(tmp_path):
    write(tmp_path / "home/.claude/settings.json", model="user", env={"A": "1", "B": "1"})
    write(tmp_path / "project/.claude/settings.json", model=3, env={"B": "2"})
    write(tmp_path / "project/.claude/settings.local.json", model="")
    files = read(tmp_path)
    result = saved_model(files)
    assert result is not None
    assert result[0] == "user"
    assert effective_environment({"A": "0", "C": "0"}, files) == {"A": "1", "B": "2", "C": "0"}


# Writing.


def build(environ=OPENAI, *, files=(), user_settings=(), saved=None):
    config = load_worker(None, entry=ENTRY, environ=dict(environ))
    variables = session(config, {}, saved_model=saved)
    return session_settings(variables, find_limits(config), files, dict(user_settings))


def test_the_model_is_set_and_variables_that_lead_elsewhere_are_empty():
    result = build()
    assert result["model"] == "big"
    env = result["env"]
    assert env["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8082"
    for name in ("ANTHROPIC_MODEL", "ANTHROPIC_API_KEY", "CLAUDE_CODE_USE_BEDROCK"):
        assert env[name] == ""


def test_no_value_is_null():
    # A null makes Claude Code ignore the whole file.
    assert "null" not in json.dumps(build(OPENAI | {"CONTEXT_WINDOW": "131072"}))


def test_a_saved_model_is_overridden_where_names_are_sent_on(tmp_path):
    write(tmp_path / "home/.claude/settings.json", model="GLM-5:big")
    anthropic = {"PROVIDER": "anthropic", "PROVIDER_API_KEY": "sk-ant-1234567890123456"}
    assert build(anthropic, files=read(tmp_path), saved="GLM-5:big")["model"] == ""
    assert "model" not in build(anthropic)


@pytest.mark.parametrize(
    ("windows", "maximum", "compact"),
    [
        pytest.param({"a": 10**5, "b": 10**6}, 10**6, {"a": 10**5, "b": 10**6}, id="each its own"),
        pytest.param({"a": 60_000, "b": 262144}, 60_000, {"b": 262144}, id="one is too small"),
        pytest.param({}, None, {}, id="unknown"),
    ],
)  # fmt: skip
def test_each_model_has_its_own_window(windows, maximum, compact):
    limits = Limits(windows=windows, max_output=None, is_claude=False)
    variables = {"CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(min(windows.values())) if windows else None}
    result = session_settings(variables, limits, (), {})
    assert result["env"].get("CLAUDE_CODE_MAX_CONTEXT_TOKENS") == (maximum and str(maximum))
    settings = result.get("modelSettings", {})
    assert {name: one["autoCompactWindow"] for name, one in settings.items()} == compact


# Thresholds of 2026-11-28: gpt-6.1-sol 272,000; claude-haiku-5-5 100,000 tokens.


@pytest.mark.parametrize("guard", ["on", "off"])
@pytest.mark.parametrize(
    ("provider", "model", "threshold"),
    [("openai", "gpt-6.1-sol", 272_000), ("anthropic", "claude-haiku-5-5", 100_000)],
)
def test_the_price_guard_compacts_before_the_threshold(provider, model, threshold, guard):
    key = "sk-ant-1234567890123456" if provider == "anthropic" else "sk-own-1234567890"
    own = {"BIG_MODEL": model} if provider == "openai" else {}
    result = build({"PROVIDER": provider, "PROVIDER_API_KEY": key, "PRICE_GUARD": guard, **own})
    compact = result.get("modelSettings", {}).get(model, {}).get("autoCompactWindow")
    assert (compact == threshold) is (guard == "on")
    if provider == "anthropic":
        assert all(name.startswith("claude-") for name in result.get("modelSettings", {}))
        assert "claude-opus-5-5" not in result.get("modelSettings", {}), "it has no threshold"


def test_the_users_own_settings_are_merged():
    own = {"model": "opus", "hooks": {}, "env": {"MINE": "1", "ANTHROPIC_BASE_URL": "https://x"}}
    result = build(user_settings=own)
    assert (result["model"], result["hooks"]) == ("opus", {})
    assert result["env"]["MINE"] == "1"
    assert result["env"]["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8082"


def test_there_is_one_private_file_per_label_and_per_settings_of_the_user(tmp_path):
    first = write_session_settings(tmp_path / "claude", "Kimi", {"a": 1}, "")
    assert first == tmp_path / "claude/Kimi.json"
    assert write_session_settings(tmp_path / "claude", "Kimi", {"a": 2}, "") == first
    assert json.loads(first.read_text()) == {"a": 2}
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o700
    other = write_session_settings(tmp_path / "claude", "Kimi", {}, "{}")
    assert other != first
    assert write_session_settings(tmp_path / "claude", "Kimi", {}, "{}") == other
    assert sorted(first.parent.iterdir()) == sorted([first, other])


def test_files_for_settings_of_the_user_are_removed_when_unused(tmp_path):
    plain = write_session_settings(tmp_path, "Kimi", {}, "")
    other = write_session_settings(tmp_path, "Kimi", {}, "{}")
    for path in (plain, other):
        os.utime(path, (time.time() - 40 * 86400,) * 2)
    write_session_settings(tmp_path, "Kimi", {}, "another")
    assert plain.exists()
    assert not other.exists()


# The user's own --settings.


@pytest.mark.parametrize(
    ("arguments", "settings", "rest"),
    [
        (["-p", "hi"], {}, ["-p", "hi"]),
        (["--settings", '{"a": 1}', "-p"], {"a": 1}, ["-p"]),
        (["-p", '--settings={"a": 1}'], {"a": 1}, ["-p"]),
        (["--", "--settings", "x"], {}, ["--", "--settings", "x"]),
        (["--settings"], {}, ["--settings"]),
    ],
)
def test_settings_are_split_from_the_arguments(arguments, settings, rest):
    assert split_settings_argument(arguments) == (settings, rest)


@pytest.mark.parametrize(
    ("value", "text"),
    [("no/such.json", "no/such.json: No such file"), ("{", "is not JSON")],
)
def test_settings_that_cannot_be_read_are_an_error(value, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=text):
        split_settings_argument(["--settings", value])
