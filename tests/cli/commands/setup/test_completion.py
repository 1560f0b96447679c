"""Completion of commands, options and labels in each shell, and its speed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from ccproxy.cli.commands.setup.completion import SHELLS
from tests.cli.conftest import command

HEAVY = {"aiohttp", "structlog", "msgspec", "rich", "psutil", "uvloop", "asyncio"}


def complete(shell, *words, code="from ccproxy.cli.main import main; main()", **environ):
    """Return the completions of the last of *words*."""
    request = {
        "_CCPROXY_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "\n".join(words) if shell == "pwsh" else " ".join(words),
        "COMP_CWORD": words[-1] if shell == "fish" else str(len(words) - 1),
        "COMP_INCOMPLETE": words[-1],
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **request, **environ},
    )


def answers(shell, *words):
    done = complete(shell, *words)
    assert done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if line]
    if shell == "zsh":  # zsh removes the backslashes
        return [value.replace("\\:", ":") for value in lines[1::3]]
    values = [line if shell == "pwsh" else line.split(",", 1)[1] for line in lines]
    return [value.split("\t")[0] for value in values]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["ccproxy", "sta"], ["start", "status", "statusline"], id="a verb"),
        pytest.param(["ccproxy", "start", "k"], ["Kimi-K2"], id="a label in any case"),
        pytest.param(["ccproxy", "env", "GLM"], ["GLM-4.6"], id="another verb's label"),
        pytest.param(["ccproxy", "run", "z"], [], id="no such label"),
        pytest.param(["ccproxy", "start", "--no"], ["--no-wait"], id="an option"),
    ],
)
def test_answers(shell, words, expected, home):
    assert [one for one in answers(shell, *words) if one != "--no-color"] == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["keys", "kimi-k2", "e"], ["enable"], id="an action on keys"),
        pytest.param(["keys", "kimi-k2", "test", "k"], ["k1"], id="a key"),
        pytest.param(["keys", "te"], ["test"], id="an action on all keys"),
        pytest.param(["switch", "kimi-k2", "nig"], ["night"], id="a preset of the table"),
        pytest.param(["switch", "kimi-k2", "openai_p"], ["openai_premium"], id="a built-in preset"),
        pytest.param(
            ["switch", "kimi-k2", "--big", "glm-4.6:b"], ["GLM-4.6:big"], id="a tier of an entry"
        ),
        pytest.param(
            ["switch", "kimi-k2", "--small", "GLM-4.6:glm-5.3-"],
            ["GLM-4.6:glm-5.3-flash"],
            id="a model of an entry",
        ),
        pytest.param(["remove", "g"], ["GLM-4.6"], id="a label to remove"),
    ],
)
def test_values_of_arguments(words, expected, home):
    table = home / "ccproxy.toml"
    table.write_text(table.read_text() + '[presets.night]\nbig = "GLM-4.6:big"\n')
    for shell in ("zsh", "fish", "pwsh"):
        assert answers(shell, "ccproxy", *words) == expected


def test_without_a_table_there_are_no_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["keys", "k"], ["switch", "k", "x"], ["switch", "k", "--big", "x"]):
        assert answers("fish", "ccproxy", *words) == []


def test_zsh_loads_its_completion_system_first(process):
    script = process("completion", "zsh").stdout
    assert script.index("compinit") < script.index("compdef _ccproxy_completion")


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh on this machine")
def test_zsh_accepts_the_script_before_compinit(process, tmp_path):
    file = tmp_path / "script"
    file.write_text(process("completion", "zsh").stdout)
    done = subprocess.run(
        ["zsh", "-f", "-c", f"source {file} && whence -w _ccproxy_completion"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "function" in done.stdout


def test_fish_shows_descriptions_with_commas(process):
    assert 'string split --max 1 ","' in process("completion", "fish").stdout


def test_labels_are_read_from_the_named_table(home, tmp_path_factory):
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    table = str(home / "ccproxy.toml")
    assert answers("bash", "ccproxy", "-c", table, "start", "k") == ["Kimi-K2"]
    assert answers("bash", "ccproxy", "start", "k") == []


def test_a_broken_table_completes_its_readable_labels(home):
    (home / "ccproxy.toml").write_text('proxies = ["18081:envs/kimi.env:Kimi", "0:x:Bad"]')
    assert answers("bash", "ccproxy", "start", "") == ["Kimi"]


def test_no_heavy_module_is_loaded_for_a_label(home):
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        "from ccproxy.cli.main import main; main()"
    )
    done = complete("bash", "ccproxy", "stop", "k", code=code)
    assert done.stdout == "plain,Kimi-K2\n"
    assert set(done.stderr.split()) & (HEAVY - {"asyncio"}) == set()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_valid_for_its_shell(shell, process, tmp_path):
    done = process("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_CCPROXY_COMPLETE" in done.stdout
    if shell != "pwsh" and shutil.which(shell):
        file = tmp_path / "script"
        file.write_text(done.stdout)
        check = subprocess.run([shell, "-n", str(file)], capture_output=True, check=False)
        assert (check.returncode, check.stderr) == (0, b"")


def test_bash_completes_with_the_script(home, process):
    folder = home / "bin"
    folder.mkdir()
    (folder / "ccproxy").write_text("#!/bin/sh\nexec " + " ".join(command()) + ' "$@"\n')
    (folder / "ccproxy").chmod(0o755)
    script = process("completion", "bash").stdout
    line = "COMP_WORDS=(ccproxy logs GL); COMP_CWORD=2; _ccproxy_completion ccproxy"
    done = subprocess.run(
        ["bash", "--norc", "-c", f'{script}\n{line}; echo "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
    )
    assert done.stdout == "GLM-4.6\n", done.stderr


def test_an_unknown_shell(ccproxy):
    result = ccproxy("completion", "tcsh")
    assert result.exit_code == 2
    assert "bash" in result.stderr


# Speed, in CPU time, because tests share the machine with other programs.


@pytest.mark.parametrize(
    ("limit", "run"),
    [
        pytest.param(
            0.15, lambda: subprocess.run(command("--help"), capture_output=True), id="help"
        ),
        pytest.param(
            0.30, lambda: subprocess.run(command("status"), capture_output=True), id="status"
        ),
        pytest.param(0.15, lambda: complete("bash", "ccproxy", "start", "k"), id="completion"),
    ],
)
def test_the_cpu_time_is_limited(limit, run, home):
    def cost():
        before = os.times()
        run()
        after = os.times()
        return (after.children_user - before.children_user) + (
            after.children_system - before.children_system
        )

    assert min(cost() for _ in range(5)) <= limit
