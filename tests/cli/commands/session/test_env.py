"""`ccproxy env`: its effect in each shell."""

from __future__ import annotations

import json
import os
import pty
import shutil
import socket
import subprocess

import pytest

from ccproxy.cli.commands.session.env import detect_shell, script
from ccproxy.cli.session.claude_environment import MANAGED
from ccproxy.config.worker_config import PLACEHOLDER
from tests.cli.conftest import GLM, KIMI, command, port_of, write_env

CLIENT_KEY = "ccp_client-key-0123456789abcdef"
NASTY = [
    "plain",
    "two words",
    "it's",
    'a "quote"',
    "$HOME `id` $(id) %PATH% !!",
    "back\\slash\\",
    "\\'",
    "semi;colon & # hash",
    "ünï ‘curly’ ‚low‛",
    "*?[a]{b,c}~",
    "",
]
SHELLS = {
    "bash": ["bash", "--norc", "-c"],
    "zsh": ["zsh", "-f", "-c"],
    "fish": ["fish", "--no-config", "-c"],
    "pwsh": ["pwsh", "-NoProfile", "-Command"],
}


def in_shell(shell, text, *, environ=()):
    """Return a variable's value after a real shell has run *text*, or None."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    ask = f"{shutil.which('env')} -0"
    done = subprocess.run(
        [*SHELLS[shell], f"{text}\n{ask}"],
        capture_output=True,
        check=True,
        env={**os.environ, **dict(environ)},
    )
    assert done.stderr == b""
    pairs = (pair.split("=", 1) for pair in done.stdout.decode().split("\0") if pair)
    return dict(pairs)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("value", NASTY)
def test_a_shell_reads_back_any_value(shell, value):
    text = script({"CCPROXY_ONE": value, "CCPROXY_TWO": None}, shell)
    result = in_shell(shell, text, environ={"CCPROXY_TWO": "old"})
    assert result.get("CCPROXY_ONE", "") == value
    assert "CCPROXY_TWO" not in result


@pytest.mark.parametrize("value", NASTY)
def test_fish_and_powershell_are_quoted_by_their_rules(value):
    (fish,) = script({"A": value}, "fish").splitlines()
    (pwsh,) = script({"A": value}, "pwsh").splitlines()
    assert fish.startswith("set -gx A '")
    assert fish.endswith("';")
    inner = fish[len("set -gx A '") : -2]
    assert inner.replace("\\\\", "\0").replace("\\'", "'").replace("\0", "\\") == value
    inner = pwsh[len("$env:A = '") : -2]
    for quote in "'‘’‚‛":
        inner = inner.replace(quote * 2, quote)
    assert inner == value


def test_a_tier_at_another_entry_is_used(home, ccproxy):
    write_env(home, "glm", GLM + "CONTEXT_WINDOW=60000\nMAX_TOKENS_LIMIT=5000\n")
    assert "CLAUDE_CODE_MAX_CONTEXT_TOKENS=60000" not in ccproxy("env", "kimi-k2").stdout
    switched = ccproxy("switch", "kimi-k2", "--small", "GLM-4.6:small")
    assert switched.exit_code == 0
    output = ccproxy("env", "kimi-k2").stdout
    assert "CLAUDE_CODE_MAX_CONTEXT_TOKENS=60000;" in output
    assert "CLAUDE_CODE_MAX_OUTPUT_TOKENS=5000;" in output


@pytest.mark.parametrize("quoted", ["", '"'], ids=["unquoted", "quoted"])
def test_eval_accepts_the_script_with_and_without_quotes(quoted, home):
    text = f"eval {quoted}$({' '.join(command('-q', 'env', 'kimi-k2'))}){quoted}"
    result = in_shell("bash", text, environ={"ANTHROPIC_API_KEY": "old"})
    assert result["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:18081"
    assert result["ANTHROPIC_AUTH_TOKEN"] == PLACEHOLDER
    assert result["CCPROXY_ACTIVE"] == "Kimi-K2"
    assert "ANTHROPIC_API_KEY" not in result


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "pwsh"])
def test_one_label_after_another_leaves_only_the_second(shell, home, ccproxy):
    write_env(home, "kimi", KIMI + "CONTEXT_WINDOW=100000\n")
    plain = (
        "PROVIDER_BASE_URL=http://127.0.0.1:9/v1\nPROVIDER_API_KEY=k\nBIG_MODEL=x\nSMALL_MODEL=y\n"
    )
    write_env(home, "glm", plain)
    first = ccproxy("env", "kimi-k2", "--shell", shell).stdout
    second = ccproxy("env", "glm-4.6", "--shell", shell).stdout
    assert first.count("\n") == second.count("\n") == len(MANAGED) + (shell == "fish")
    result = in_shell(shell, first + second)
    assert result["CCPROXY_ACTIVE"] == "GLM-4.6"
    assert "CLAUDE_CODE_MAX_CONTEXT_TOKENS" not in result


def test_unset_leaves_nothing(home, ccproxy):
    text = ccproxy("env", "kimi-k2").stdout + ccproxy("env", "--unset").stdout
    assert set(in_shell("bash", text)) & set(MANAGED) == set()


def test_unset_needs_no_table(ccproxy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ccproxy("env", "--unset").exit_code == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_succeeds_so_that_a_command_can_follow(shell, home, ccproxy):
    for words in (["kimi-k2"], ["--unset"]):
        text = ccproxy("-q", "env", *words, "--shell", shell).stdout
        source = "cat | source" if shell == "fish" else 'eval "$(cat)"'
        result = (
            subprocess.run(
                [shell, "-c", f"{source} && echo started"],
                input=text,
                capture_output=True,
                text=True,
                check=False,
            )
            if shutil.which(shell)
            else pytest.skip(f"no {shell} on this machine")
        )
        assert result.stdout == "started\n", result


def test_the_script_for_fish_ends_with_success(home, ccproxy):
    # In fish, `set -e` of an unset variable fails.
    assert ccproxy("env", "kimi-k2", "--shell", "fish").stdout.splitlines()[-1] == "true;"


def test_eval_is_confirmed_with_one_line_and_the_command_to_undo_it(home, ccproxy):
    done = ccproxy("env", "kimi-k2")
    last = done.stderr.splitlines()[-1]
    assert last == 'This shell now uses Kimi-K2.  To undo:  eval "$(ccproxy env --unset)"'
    assert ccproxy("-q", "env", "kimi-k2").stderr == ""
    done = ccproxy("env", "kimi-k2", "--shell", "fish")
    assert done.stderr.endswith("To undo:  ccproxy env --unset --shell fish | source\n")


def test_a_saved_model_of_another_provider_is_named(home, ccproxy):
    settings = home / ".claude" / "settings.local.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"model": "GLM-4.6:big"}))
    done = ccproxy("env", "kimi-k2")
    assert done.exit_code == 0
    warning = '.claude/settings.local.json saves the model "GLM-4.6:big" of another provider'
    assert f"warning: {warning}; kimi-k3.1-pro is used instead" in done.stderr
    assert "export ANTHROPIC_MODEL=kimi-k3.1-pro;" in done.stdout
    assert "saves the model" not in ccproxy("env", "glm-4.6").stderr


def test_no_label(home, ccproxy):
    result = ccproxy("env")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "fix: ccproxy env LABEL" in result.stderr


def test_a_broken_env_file_prints_nothing_to_evaluate(home, ccproxy):
    write_env(home, "kimi", KIMI.replace("kimi", "kimmi", 1))
    result = ccproxy("env", "kimi-k2")
    assert (result.exit_code, result.stdout) == (78, "")
    assert "envs/kimi.env:1" in result.stderr


# On a terminal.


def on_terminal(*args):
    ours, theirs = pty.openpty()
    subprocess.run(command(*args), stdout=theirs, stderr=theirs, check=True)
    os.close(theirs)
    output = os.read(ours, 65536).decode()
    os.close(ours)
    return output


@pytest.fixture
def guarded(home):
    write_env(home, "kimi", KIMI + f"ANTHROPIC_API_KEY={CLIENT_KEY}\n")
    return home


def test_on_a_terminal_the_token_is_masked_with_a_hint(guarded):
    output = on_terminal("env", "kimi-k2")
    assert CLIENT_KEY[4:12] not in output
    assert "cdef" in output
    assert 'eval "$(ccproxy env Kimi-K2)"' in output


def test_show_prints_the_token(guarded):
    assert CLIENT_KEY in on_terminal("env", "kimi-k2", "--show")


def test_in_a_pipe_the_token_is_complete(guarded, ccproxy):
    assert f"ANTHROPIC_AUTH_TOKEN={CLIENT_KEY};" in ccproxy("env", "kimi-k2").stdout


# Settings that take precedence.


def test_a_shadowing_setting_is_named_on_stderr(home, ccproxy):
    settings = home / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"env": {"ANTHROPIC_BASE_URL": "https://elsewhere"}}))
    result = ccproxy("env", "glm-4.6")
    assert result.exit_code == 0
    assert ".claude/settings.json sets ANTHROPIC_BASE_URL and overrides the shell" in result.stderr
    assert "ccproxy run GLM-4.6 -- claude" in result.stderr
    assert "warning" not in result.stdout
    assert "sk-" not in result.stdout + result.stderr
    assert "sk-" in GLM


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"SHELL": "/bin/bash"}, "bash"),
        ({"SHELL": "/usr/bin/zsh"}, "zsh"),
        ({"SHELL": "/opt/fish"}, "fish"),
        ({"SHELL": "/usr/bin/pwsh"}, "pwsh"),
        ({"SHELL": "/bin/dash"}, "bash"),
        ({"PSModulePath": "C:\\x"}, "pwsh"),
        ({}, "bash"),
    ],
)
def test_the_shell_is_the_users(environ, expected):
    assert detect_shell(environ) == expected


# Notes and warnings.


def test_an_unknown_context_window_is_noted(home, ccproxy):
    write_env(home, "kimi", "PROVIDER=ollama\n")
    result = ccproxy("env", "kimi-k2")
    assert "note: the context window of qwen3-coder:30b is unknown" in result.stderr
    assert "unknown" not in result.stdout
    assert ccproxy("env", "kimi-k2", "-q").stderr == ""
    assert "is unknown" not in ccproxy("env", "glm-4.6").stderr


def test_a_stopped_proxy_is_reported(demo, ccproxy):
    done = ccproxy("env", "demo")
    assert done.exit_code == 0
    assert (
        "warning: Demo is not running, so requests to it fail\n  fix: ccproxy start Demo"
        in done.stderr
    )
    assert "is not running" not in done.stdout
    assert not (demo / "pids").exists()


def test_another_programs_port_is_reported(demo, ccproxy):
    port = port_of(demo, "Demo")
    with socket.create_server(("127.0.0.1", port)):
        done = ccproxy("env", "demo")
    assert done.exit_code == 0
    assert f"warning: Demo does not answer: port {port} in use by " in done.stderr
    assert "in use" not in done.stdout


def test_a_running_proxy_causes_no_message(demo, ccproxy, process):
    assert process("start", "demo").returncode == 0
    done = ccproxy("env", "demo")
    assert done.exit_code == 0
    assert "warning:" not in done.stderr
    assert "warning: Other is not running" in ccproxy("env", "other").stderr
