"""`ccproxy run`: the right environment, Claude Code's settings, exit codes and signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ccproxy.cli.commands.session.run import _split_settings, is_claude
from tests.cli.conftest import command, health, port_of, write_env

CLAUDE = """\
#!{python}
# Says what Claude Code would have been told.
import json, os, stat, sys
file = sys.argv[sys.argv.index("--settings") + 1]
json.dump({{
    "arguments": sys.argv[1:],
    "settings": json.load(open(file)),
    "mode": stat.S_IMODE(os.stat(file).st_mode),
    "file": file,
    "environ": dict(os.environ),
    "cmdline": open("/proc/self/cmdline").read(),
}}, sys.stdout)
sys.exit(3)
"""
TELL = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.fixture
def claude(tmp_path, monkeypatch):
    """A `claude` on PATH that tells what it was given."""
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text(CLAUDE.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


def test_the_worker_is_started_and_the_environment_set(demo, process, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "old")
    monkeypatch.setenv("CLAUDE_CODE_USE_BEDROCK", "1")
    done = process("run", "demo", "--", sys.executable, "-c", TELL)
    assert done.returncode == 0, done.stderr
    environ = json.loads(done.stdout)
    port = port_of(demo, "Demo")
    assert environ["ANTHROPIC_BASE_URL"] == f"http://127.0.0.1:{port}"
    assert environ["CCPROXY_ACTIVE"] == "Demo"
    assert "ANTHROPIC_API_KEY" not in environ
    assert "CLAUDE_CODE_USE_BEDROCK" not in environ
    assert environ["HOME"] == os.environ["HOME"]
    assert health(port)["label"] == "Demo"
    again = process("run", "demo", "true")
    assert (again.returncode, again.stderr) == (0, "")


def test_claude_gets_settings_that_win_and_no_secret_in_its_arguments(demo, process, claude):
    write_env(demo, "demo", "PROVIDER=demo\nANTHROPIC_API_KEY=client-key-1234567890\n")
    shadow = {"env": {"ANTHROPIC_BASE_URL": "https://x", "ANTHROPIC_MODEL": "y", "OTHER": "z"}}
    (demo / ".claude").mkdir()
    (demo / ".claude" / "settings.json").write_text(json.dumps(shadow))
    done = process("run", "demo", "--", "claude", "-p", "hi", "--model", "opus")
    assert done.returncode == 3, done.stderr
    told = json.loads(done.stdout)
    assert told["arguments"] == ["--settings", told["file"], "-p", "hi", "--model", "opus"]
    assert told["mode"] == 0o600
    assert not Path(told["file"]).exists()
    env = told["settings"]["env"]
    assert env["ANTHROPIC_BASE_URL"] == told["environ"]["ANTHROPIC_BASE_URL"]
    assert env["ANTHROPIC_AUTH_TOKEN"] == "client-key-1234567890"
    assert env["ANTHROPIC_MODEL"] == ""
    assert "OTHER" not in env
    assert "client-key-1234567890" not in told["cmdline"]
    for key in ("ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL"):
        assert f".claude/settings.json sets {key}; this session overrides it" in done.stderr


def test_the_users_own_settings_are_kept(demo, process, claude):
    own = {"model": "opus", "env": {"MINE": "1", "ANTHROPIC_BASE_URL": "https://x"}}
    (demo / "own.json").write_text(json.dumps(own))
    done = process("run", "demo", "--", "claude", "--settings", "own.json", "-p", "hi")
    told = json.loads(done.stdout)
    assert told["arguments"][2:] == ["-p", "hi"]
    assert told["settings"]["model"] == "opus"
    assert told["settings"]["env"]["MINE"] == "1"
    assert told["settings"]["env"]["ANTHROPIC_BASE_URL"] != "https://x"


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
def test_settings_are_found_among_the_arguments(arguments, settings, rest):
    assert _split_settings(arguments) == (settings, rest)


@pytest.mark.parametrize(
    ("program", "typed", "expected"),
    [
        ("/usr/bin/claude", "claude", True),
        ("/opt/x/claude.exe", "claude.exe", True),
        ("/home/me/.local/bin/claude", "/home/me/.local/bin/claude", True),
        ("/bin/bash", "bash", False),
        ("/usr/bin/claude-squad", "claude-squad", False),
    ],
)
def test_what_is_claude(program, typed, expected):
    assert is_claude(program, typed) is expected


# Before anything is started.


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        pytest.param(
            ["kimi-k2", "--", "no-such-thing"],
            127,
            "command not found: no-such-thing",
            id="command",
        ),
        pytest.param(["kimi-k3", "true"], 2, 'did you mean "Kimi-K2"', id="label"),
        pytest.param(["*", "true"], 2, "fits 2 labels", id="several labels"),
        pytest.param([], 2, "missing argument", id="nothing"),
    ],
)
def test_mistakes(args, code, words, home, ccproxy):
    result = ccproxy("run", *args)
    assert result.exit_code == code
    assert words in result.stderr
    assert not (home / "state").exists()


def test_an_unknown_window_is_told(demo, process):
    assert "window" not in process("run", "demo", "--", "true").stderr
    write_env(demo, "demo", "PROVIDER=ollama\n")
    told = process("run", "demo", "--", "true").stderr
    assert "note: the context window of qwen3-coder:30b is unknown" in told
    assert process("-q", "run", "demo", "--", "true").stderr == ""


def test_a_worker_that_cannot_start_is_told(demo, process):
    with socket.create_server(("127.0.0.1", port_of(demo, "Demo"))):
        done = process("run", "demo", "--", "true")
    assert done.returncode == 5
    assert "Demo did not start: port" in done.stderr


# Codes and signals of the command.


@pytest.mark.parametrize("program", ["sh", "claude"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, 137)])
def test_a_command_that_a_signal_ended(program, number, code, demo, process, claude):
    claude.write_text(f"#!/bin/sh\nkill -{int(number)} $$\n")
    args = ["sh", "-c", f"kill -{int(number)} $$"] if program == "sh" else ["claude"]
    done = process("run", "demo", "--", *args)
    # `sh` takes our place, and so its end is ours: subprocess tells that as a negative number.
    assert done.returncode == (-number if program == "sh" else code)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_the_command(number, demo, process, claude):
    process("start", "demo")
    claude.write_text(
        f"#!{sys.executable}\n"
        "import signal, sys\n"
        "for number in (1, 2, 15):\n"
        "    signal.signal(number, lambda number, frame: sys.exit(40 + number))\n"
        "print('here', flush=True)\n"
        "signal.pause()\n"
    )
    child = subprocess.Popen(
        command("run", "demo", "--", "claude"),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with child, child.stdout as shown:
        assert shown.readline() == "here\n"
        child.send_signal(number)
    assert child.returncode == 40 + number
