"""`ccproxy run`: environment, Claude Code's settings, warnings, exit codes and signals."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ccproxy.cli.commands.session.run import known_program
from ccproxy.cli.session.claude_environment import Limits
from ccproxy.cli.session.codex_session import codex_overrides
from tests.cli.conftest import command, health, port_of, write_env
from tests.cli.terminal import Terminal

CLAUDE = """\
#!{python}
# Prints the arguments and the environment of Claude Code.
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
    """A `claude` on PATH that prints its arguments and environment."""
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


def test_claude_gets_settings_with_precedence_and_no_secret_in_its_arguments(demo, process, claude):
    write_env(demo, "demo", "PROVIDER=demo\nANTHROPIC_API_KEY=client-key-1234567890\n")
    shadow = {"env": {"ANTHROPIC_BASE_URL": "https://x", "ANTHROPIC_MODEL": "y", "OTHER": "z"}}
    (demo / ".claude").mkdir()
    (demo / ".claude" / "settings.json").write_text(json.dumps(shadow))
    done = process("run", "demo", "--", "claude", "-p", "hi", "--model", "opus")
    assert done.returncode == 3, done.stderr
    message = json.loads(done.stdout)
    assert message["arguments"] == ["--settings", message["file"], "-p", "hi", "--model", "opus"]
    assert message["mode"] == 0o600
    assert message["file"] == str(demo / "state/claude/Demo.json")
    assert json.loads(Path(message["file"]).read_text()) == message["settings"], "the file is kept"
    env = message["settings"]["env"]
    assert env["ANTHROPIC_BASE_URL"] == message["environ"]["ANTHROPIC_BASE_URL"]
    assert env["ANTHROPIC_AUTH_TOKEN"] == "client-key-1234567890"
    assert env["ANTHROPIC_MODEL"] == ""
    assert "OTHER" not in env
    assert "client-key-1234567890" not in message["cmdline"]
    for key in ("ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL"):
        assert f".claude/settings.json sets {key}; this session overrides it" in done.stderr


def test_the_settings_file_is_the_same_in_every_session(demo, process, claude):
    files = [json.loads(process("run", "demo", "claude").stdout)["file"] for _ in range(2)]
    assert files[0] == files[1]
    own = [
        json.loads(process("run", "demo", "claude", "--settings", "{}").stdout)["file"],
        json.loads(process("run", "demo", "claude", "--settings", '{"model": "x"}').stdout)["file"],
    ]
    assert len({files[0], *own}) == 2, "empty settings need no file of their own"


def test_no_key_is_left_in_the_temporary_folder(demo, process, claude, tmp_path, monkeypatch):
    write_env(demo, "demo", "PROVIDER=demo\nANTHROPIC_API_KEY=client-key-1234567890\n")
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    claude.write_text("#!/bin/sh\nkill -KILL $PPID\n")
    assert process("run", "demo", "claude").returncode == -signal.SIGKILL
    assert list(folder.iterdir()) == []


def save(folder: Path, name: str = "settings.json", **settings: object) -> None:
    (folder / ".claude").mkdir(exist_ok=True)
    (folder / ".claude" / name).write_text(json.dumps(settings))


@pytest.mark.parametrize("program", ["claude", "env"])
def test_a_saved_model_of_another_provider_is_not_used(program, demo, process, claude):
    save(Path(os.environ["HOME"]), model="someone/big")
    done = process("run", "demo", program)
    assert 'saves the model "someone/big" of another provider' in done.stderr
    if program == "claude":
        assert "Demo:big is used instead" in done.stderr
        assert json.loads(done.stdout)["settings"]["model"] == "Demo:big"
    else:
        assert "demo-large is used instead" in done.stderr
        assert "ANTHROPIC_MODEL=demo-large\n" in done.stdout


def saved_by_user() -> dict[str, object]:
    return json.loads((Path(os.environ["HOME"]) / ".claude/settings.json").read_text())


def choosing(name: str) -> str:
    """Return a script that acts like Claude Code when the user selects the model *name*."""
    return (
        f"#!{sys.executable}\nimport json, os, pathlib, sys\n"
        "print(json.load(open(sys.argv[2]))['model'])\n"
        "file = pathlib.Path(os.environ['HOME'], '.claude/settings.json')\n"
        f"file.write_text(json.dumps(json.loads(file.read_text()) | {{'model': {name!r}}}))\n"
    )


def test_a_selected_model_is_saved_for_the_label_and_the_users_own_is_restored(
    demo, process, claude
):
    save(Path(os.environ["HOME"]), model="opus", theme="dark")
    claude.write_text(choosing("Other:small"))
    first, second = (process("run", "demo", "claude").stdout.strip() for _ in range(2))
    assert (first, second) == ("Demo:big", "Other:small")
    assert saved_by_user() == {"model": "opus", "theme": "dark"}
    assert process("run", "other", "claude").stdout.strip() == "Other:big"


def test_a_model_saved_by_a_killed_session_is_restored_at_the_next_start(demo, process, claude):
    save(Path(os.environ["HOME"]), theme="dark")
    process("run", "demo", "claude")
    save(Path(os.environ["HOME"]), theme="dark", model="Other:small")
    done = process("run", "demo", "claude")
    assert 'note: an earlier session saved the model "Other:small"' in done.stderr
    assert json.loads(done.stdout)["settings"]["model"] == "Demo:big"
    assert saved_by_user() == {"theme": "dark"}
    assert json.loads(process("run", "other", "claude").stdout)["settings"]["model"] == (
        "Other:small"
    )


def test_the_picker_lists_the_models_of_the_fleet(demo, process, claude):
    settings = json.loads(process("run", "other", "claude").stdout)["settings"]
    rows = {row["model"]: row["label"] for row in settings["modelPicker"]["options"]}
    assert rows["Other:big"] == "Other · demo-large"
    assert rows["Demo:small"] == "Demo · demo-small"
    assert next(iter(rows)) == "Other:big", "its own models come first"
    assert settings["env"]["ANTHROPIC_DEFAULT_HAIKU_MODEL"] == "Other:small"
    assert settings["modelPicker"]["options"][-1]["description"] == (
        "not running: ccproxy start Demo"
    )


@pytest.mark.parametrize("model", ["demo-small", "claude-opus-5-5", "sonnet"])
def test_a_saved_model_that_the_proxy_has_causes_no_warning(model, demo, process, claude):
    save(Path(os.environ["HOME"]), model=model)
    assert "saves the model" not in process("run", "demo", "claude").stderr


def test_a_wrapper_is_warned_about_settings_that_override_its_environment(demo, process):
    save(demo, env={"ANTHROPIC_BASE_URL": "https://x"})
    done = process("run", "demo", "--", "sh", "-c", "exit 5")
    assert done.returncode == 5
    assert ".claude/settings.json sets ANTHROPIC_BASE_URL and overrides the shell" in done.stderr
    assert "or use: ccproxy run Demo -- claude" in done.stderr


def test_an_http_proxy_in_settings_does_not_get_requests_to_this_machine(demo, process, claude):
    save(demo, env={"HTTPS_PROXY": "http://proxy.corp:1", "NO_PROXY": ".corp"})
    message = json.loads(process("run", "demo", "claude").stdout)
    assert message["settings"]["env"]["NO_PROXY"] == ".corp,127.0.0.1,localhost,::1"
    done = process("run", "demo", "true")
    assert ".claude/settings.json sets NO_PROXY and overrides the shell" in done.stderr


def test_different_context_windows_are_noted(demo, process, claude):
    tiers = "PROVIDER=kimi\nPROVIDER_API_KEY=sk-kimi-0123456789\nBIG_MODEL=kimi-k3\n"
    write_env(demo, "demo", tiers + "SMALL_MODEL=kimi-k2.6\n")
    done = process("run", "demo", "claude")
    assert "note: context windows in tokens: kimi-k3 " in done.stderr
    assert "kimi-k2.6 262,144" in done.stderr
    assert "a shell can only use the smallest" not in done.stderr
    assert "a shell can only use the smallest" in process("run", "demo", "true").stderr


def test_the_users_own_settings_are_kept(demo, process, claude):
    own = {"model": "opus", "env": {"MINE": "1", "ANTHROPIC_BASE_URL": "https://x"}}
    (demo / "own.json").write_text(json.dumps(own))
    done = process("run", "demo", "--", "claude", "--settings", "own.json", "-p", "hi")
    message = json.loads(done.stdout)
    assert message["arguments"][2:] == ["-p", "hi"]
    assert message["settings"]["model"] == "opus"
    assert message["settings"]["env"]["MINE"] == "1"
    assert message["settings"]["env"]["ANTHROPIC_BASE_URL"] != "https://x"


@pytest.mark.parametrize(
    ("program", "typed", "expected"),
    [
        ("/usr/bin/claude", "claude", "claude"),
        ("/opt/x/claude.exe", "claude.exe", "claude"),
        ("/home/me/.local/bin/claude", "/home/me/.local/bin/claude", "claude"),
        ("/usr/bin/codex", "codex", "codex"),
        ("/opt/x/codex.cmd", "my-codex", "codex"),
        ("/bin/bash", "bash", ""),
        ("/usr/bin/claude-squad", "claude-squad", ""),
    ],
)
def test_known_programs(program, typed, expected):
    assert known_program(program, typed) == expected


# Codex CLI.

CODEX = """\
#!{python}
import json, os, sys
json.dump([sys.argv[1:], dict(os.environ)], sys.stdout)
"""


def test_codex_gets_the_proxy_as_its_provider(demo, process, tmp_path, monkeypatch):
    program = tmp_path / "bin" / "codex"
    program.parent.mkdir()
    program.write_text(CODEX.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CODEX_HOME", "/my/own")
    done = process("run", "demo", "--", "codex", "exec", "-c", "mine=1", "hi")
    arguments, environ = json.loads(done.stdout)
    assert arguments[-4:] == ["exec", "-c", "mine=1", "hi"]
    assert set(arguments[:-4:2]) == {"-c"}
    overrides = tomllib.loads("\n".join(arguments[1:-4:2]))
    assert overrides["model_provider"] == "ccproxy"
    provider = overrides["model_providers"]["ccproxy"]
    assert provider["base_url"] == f"http://127.0.0.1:{port_of(demo, 'Demo')}/v1"
    assert provider["wire_api"] == "responses"
    assert environ[provider["env_key"]]
    assert environ["CODEX_HOME"] == "/my/own"


def test_codex_gets_model_and_window():
    session = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1", "ANTHROPIC_AUTH_TOKEN": "secret"}
    limits = Limits(windows={"kimi-k3": 262144}, max_output=None, is_claude=False)
    words = codex_overrides(session, limits, label="Kimi", model="kimi-k3")
    overrides = tomllib.loads("\n".join(words[1::2]))
    assert (overrides["model"], overrides["model_context_window"]) == ("kimi-k3", 262144)
    assert "secret" not in str(words)
    unnamed = codex_overrides(session, limits, label="Kimi", model=None)
    assert not any(term.startswith("model=") for term in unnamed)


# Checks before the start.


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
        pytest.param(["*", "true"], 2, "matches 2 labels", id="several labels"),
        pytest.param(
            ["--pane", "kimi-k2", "--", "true"], 2, "--pane is for Claude Code", id="no Claude Code"
        ),
        pytest.param([], 2, "the label is missing\n  fix: ccproxy run LABEL", id="nothing"),
        pytest.param(
            ["sh", "-c", "true"],
            2,
            "fix: ccproxy run LABEL -- sh -c true; labels: Kimi-K2, GLM-4.6",
            id="a command instead of the label",
        ),
        pytest.param(
            ["kimi", "-p", "hi"], 127, "fix: ccproxy run Kimi-K2 -- claude -p hi", id="only options"
        ),
    ],
)
def test_mistakes(args, code, words, home, ccproxy):
    result = ccproxy("run", *args)
    assert result.exit_code == code
    assert words in result.stderr
    assert not (home / "state").exists()


def test_an_unknown_context_window_is_noted(demo, process):
    assert "window" not in process("run", "demo", "--", "true").stderr
    write_env(demo, "demo", "PROVIDER=ollama\n")
    message = process("run", "demo", "--", "true").stderr
    assert "note: the context window of qwen3-coder:30b is unknown" in message
    assert process("-q", "run", "demo", "--", "true").stderr == ""


def test_a_worker_that_cannot_start_is_reported(demo, process):
    with socket.create_server(("127.0.0.1", port_of(demo, "Demo"))):
        done = process("run", "demo", "--", "true")
    assert done.returncode == 5
    assert "Demo did not start: port" in done.stderr


def test_a_prefix_of_a_label_is_enough(demo, process):
    assert process("run", "de", "true").returncode == 0


def test_a_terminal_shows_a_list_to_choose_from(demo):
    terminal = Terminal("run", "--", "printenv", "CCPROXY_ACTIVE")
    terminal.wait_for("  1  Demo\r\n  2  Other\r\n")
    terminal.wait_for("number or label: ")
    terminal.type("oops\n")
    terminal.wait_for('Error: "oops"')
    terminal.wait_for("number or label: ")
    terminal.type("2\n")
    terminal.wait_for("Other\r\n")
    assert terminal.end() == 0, terminal.seen


# Exit codes and signals of the command.


@pytest.mark.parametrize("program", ["sh", "claude"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, 137)])
def test_a_command_that_was_killed_by_a_signal(program, number, code, demo, process, claude):
    claude.write_text(f"#!/bin/sh\nkill -{int(number)} $$\n")
    args = ["sh", "-c", f"kill -{int(number)} $$"] if program == "sh" else ["claude"]
    done = process("run", "demo", "--", *args)
    # `sh` replaces ccproxy's process, so subprocess reports its signal as a negative number.
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
    with child, child.stdout as output:
        assert output.readline() == "here\n"
        child.send_signal(number)
    assert child.returncode == 40 + number
