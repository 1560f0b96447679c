"""`ccproxy interactive`: its twelve commands, from a pipe and at a terminal."""

from __future__ import annotations

import errno
import os
import pty
import re
import select
import stat
import subprocess
import sys
import time

import pytest

from ccproxy.cli.command import Options
from ccproxy.cli.commands.session.interactive import COMMANDS
from ccproxy.cli.selection import open_fleet
from tests.cli.conftest import write_env


@pytest.fixture
def say(ccproxy):
    """Return a function that runs the command with these lines as input."""
    return lambda *lines, label="kimi-k2": ccproxy("interactive", label, input="\n".join(lines))


def test_the_twelve_commands_are_listed(home, say):
    done = say("help", "quit")
    assert done.exit_code == 0
    listed = done.stdout.splitlines()
    assert [line.split()[0] for line in listed[: len(COMMANDS)]] == list(COMMANDS)
    assert listed[len(COMMANDS)] == "The other ccproxy commands work here as well:"
    assert set(COMMANDS) == {
        *("preset", "config", "toggle", "test", "record", "load"),
        *("logs", "providers", "presets", "env", "help", "quit"),
    }


def test_config(home, say):
    done = say("config")
    lines = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    output = {name: value.strip() for name, value in lines.items()}
    assert output["provider"] == "Kimi"
    assert (output["keys"], output["address"]) == ("1", "http://127.0.0.1:18081")
    assert "secret" not in done.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("confg", 'did you mean "config"?'),
        ("frobnicate", "type help"),
        ("config now", "takes at most 0 arguments"),
        ("record perhaps", "record takes on or off, not"),
        ("providers nobody", "is not in the table"),
        ('load "', "cannot parse this line"),
        ("load", "the file name is missing"),
        ("load ../../etc/passwd", "not the name of a file"),
        ("toggle", "is not running"),
        ("record", "is not running"),
        ("test", "does not respond"),
        ("record", "\n  fix: ccproxy start Kimi-K2"),
    ],
)
def test_a_failing_command_is_reported_and_the_next_one_runs(home, say, line, expected):
    done = say(line, "help")
    assert expected in done.stderr
    assert done.exit_code == 1
    assert "quit" in done.stdout
    assert "Traceback" not in done.stderr


def test_empty_lines_and_lines_after_quit_are_ignored(home, say):
    done = say("", "# a comment", "   ", "QUIT", "frobnicate")
    assert (done.exit_code, done.stderr) == (0, "")


def test_an_entry_that_was_just_added_can_be_selected(home, say):
    done = say("init --no-input --preset demo --label new", "providers new")
    assert done.exit_code == 0, done.stderr
    assert "Now managing new." in done.stdout


def test_the_prompt_continues_if_the_table_cannot_be_found(home, say, monkeypatch):
    """The table is read again before each line, which fails in a folder that was deleted."""
    results = iter([open_fleet(Options())])

    def open_once(_options):
        if (fleet := next(results, None)) is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return fleet

    monkeypatch.setattr("ccproxy.cli.commands.session.interactive.open_fleet", open_once)
    done = say("config", "quit")
    assert done.exit_code == 0, done.stderr
    assert "base URL" in done.stdout


def test_selecting_another_proxy(home, say):
    done = say("providers glm-4.6", "config")
    assert "Now managing GLM-4.6." in done.stdout
    assert "Z.ai" in done.stdout


def test_all_presets_are_listed(home, say):
    done = say("presets")
    assert done.exit_code == 0
    assert "openai_premium" in done.stdout


def test_env_prints_and_edits_nothing(home, say, monkeypatch):
    user = home / "user"
    user.mkdir()
    monkeypatch.setenv("HOME", str(user))
    files = (".bashrc", ".zshrc", ".profile")
    for name in files:
        (user / name).write_text("mine\n")
    done = say("env")
    assert 'eval "$(ccproxy env Kimi-K2)"' in done.stdout
    assert "ANTHROPIC_BASE_URL" in done.stdout
    assert {path.name: path.read_text() for path in user.iterdir()} == dict.fromkeys(
        (".bashrc", ".zshrc", ".profile"), "mine\n"
    )


def test_with_a_running_fleet(demo, process):
    write_env(demo, "demo", "PROVIDER=demo\n")
    assert process("start").returncode == 0
    words = "providers\ntest\ntoggle\ntoggle on\nrecord on\nrecord\nlogs 5\n"
    done = process("interactive", "demo", input=words)
    assert done.returncode == 0, done.stderr
    for output in (
        "all 2 ready",
        "answers",
        "Demo is bypassed",
        "Demo is on",
        "Recording Demo conversations",
        "Not recording Demo conversations",
        "proxy.switched enabled=true",
    ):
        assert output in done.stdout, output


@pytest.mark.parametrize("with_toolkit", [True, False])
def test_at_a_terminal(home, with_toolkit):
    hide = "" if with_toolkit else "sys.modules['prompt_toolkit'] = None;"
    code = (
        f"import sys; {hide} from ccproxy.cli.main import cli; cli.main(['interactive', 'kimi-k2'])"
    )
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env={**os.environ, "TERM": "dumb", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    os.close(theirs)
    try:
        read_until(ours, "Kimi-K2> ")
        os.write(ours, b"frobnicate\r")
        read_until(ours, "type help", "Kimi-K2> ")
        os.write(ours, b"quit\r")
        assert child.wait(timeout=60) == 0
    finally:
        child.kill()
        child.wait()
        os.close(ours)
    history = home / "state/interactive.history"
    assert history.exists() is with_toolkit
    if with_toolkit:
        assert stat.S_IMODE(history.stat().st_mode) == 0o600
        assert "frobnicate" in history.read_text()


def read_until(fd, *texts, within=60.0):
    """Read until all *texts* have appeared in order, or fail with the text so far."""
    observed, late = "", time.monotonic() + within
    pattern = re.compile(".*".join(map(re.escape, texts)), re.DOTALL)
    while pattern.search(observed) is None:
        ready, _, _ = select.select([fd], [], [], max(0.0, late - time.monotonic()))
        assert ready, f"never saw {texts!r} in {observed!r}"
        observed += os.read(fd, 4096).decode(errors="replace")


# The first proxy, and other commands.


@pytest.mark.parametrize(
    ("active", "label"),
    [
        pytest.param("", "GLM-4.6", id="the newest that is not the demo"),
        pytest.param("Kimi-K2", "Kimi-K2", id="the one of this shell"),
        pytest.param("Gone", "GLM-4.6", id="the shell's was removed"),
    ],
)
def test_without_a_label_it_manages_the_fleet(active, label, home, ccproxy, monkeypatch):
    table = home / "ccproxy.toml"
    table.write_text(table.read_text().replace("]", '  "18083:envs/demo.env:Demo",\n]'))
    write_env(home, "demo", "PROVIDER=demo\n")
    monkeypatch.setenv("CCPROXY_ACTIVE", active)
    done = ccproxy("interactive", input="config\n")
    assert done.exit_code == 0, done.stderr
    port = {"Kimi-K2": 18081, "GLM-4.6": 18082}[label]
    assert f"http://127.0.0.1:{port}" in done.stdout


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("status", 0, "GLM-4.6"),
        ("ps", 0, "GLM-4.6"),
        ("check", 0, "Kimi-K2"),
        ("switch", 0, "Kimi-K2 uses the models in its env file"),
        ("switch GLM-4.6", 0, "GLM-4.6 uses the models in its env file"),
        ("route", 0, "no rules"),
        ("switch nonesuch", 1, ""),
        ("interactive", 1, ""),
    ],
)
def test_other_commands_work_as_on_the_command_line(line, code, text, home, ccproxy):
    done = ccproxy("interactive", "kimi-k2", input=f"{line}\n")
    assert (done.exit_code, text in done.stdout) == (code, True), done.output
