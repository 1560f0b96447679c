"""The group: lazy verbs, errors as sentences, exit codes, colours."""

from __future__ import annotations

import errno
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ccproxy import __version__, errors
from ccproxy.cli import main
from ccproxy.cli.main import EXIT_CODES, MEANINGS, cli
from ccproxy.cli.verbs import ALIASES, PACKAGES, VERBS
from ccproxy.errors import ConfigError, Mistake
from tests.cli.conftest import command

HEAVY = {"aiohttp", "structlog", "msgspec", "rich", "psutil", "uvloop", "ccproxy.worker"}


def imported_by(*args, **environ):
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        f"sys.argv = {['ccproxy', *args]!r}\n"
        "from ccproxy.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environ},
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


# The verbs.


def test_help_lists_every_verb_and_imports_none():
    modules = imported_by("--help")
    assert modules & HEAVY == set()
    assert {f"ccproxy.cli.{verb.replace('-', '_')}" for verb in VERBS} & modules == set()


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_needs_no_table_and_shows_examples(verb, ccproxy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = ccproxy(verb, "--help")
    assert result.exit_code == 0
    assert result.stdout.split("Examples:")[1].count("ccproxy ") >= 2


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_is_a_module_of_its_name(verb):
    command = cli.get_command(click.Context(cli), verb)
    # A word of Python's, such as import, gets a tail.
    module = f"ccproxy.cli.commands.{PACKAGES[verb]}.{verb.replace('-', '_')}"
    assert command.callback.__module__.rstrip("_") == module
    assert command.name == verb


@pytest.mark.parametrize("verb", [*VERBS, *ALIASES])
def test_the_help_of_a_verb_loads_nothing_heavy(verb):
    assert imported_by(verb, "--help") & HEAVY == set()


def test_every_verb_has_a_file_and_every_file_of_a_command_is_a_verb():
    folder = Path(main.__file__).parent / "commands"
    commands = {
        f"{path.parent.name}.{path.stem.rstrip('_')}"
        for path in folder.rglob("*.py")
        if path.stem != "__init__"
    }
    assert commands == {f"{PACKAGES[verb]}.{verb.replace('-', '_')}" for verb in VERBS}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("strat", "start"), ("statsu", "status"), ("log", "logs"), ("reastart", "restart")],
)
def test_a_mistyped_verb_is_answered_with_the_likeliest(typed, meant, ccproxy):
    result = ccproxy(typed)
    assert result.exit_code == 2
    expected = (
        f'error: "{typed}" is not a command (did you mean "{meant}"?)\n  fix: ccproxy {meant}'
    )
    assert result.stderr.strip() == expected


def test_a_word_like_no_verb_leads_to_the_help(ccproxy):
    result = ccproxy("xyzzy")
    assert (result.exit_code, result.stderr) == (
        2,
        'error: "xyzzy" is not a command\n  fix: ccproxy --help\n',
    )


def test_a_wrong_option_names_the_help_of_its_verb(ccproxy):
    result = ccproxy("cleanup", "--older-than", "soon")
    assert result.exit_code == 2
    assert '"soon" is not a length of time such as 15s' in result.stderr
    assert "fix: ccproxy cleanup --help" in result.stderr


@pytest.mark.parametrize("args", [["--version"], ["version"]])
def test_the_version(args, ccproxy):
    assert ccproxy(*args).stdout == f"ccproxy {__version__}\n".replace("ccproxy,", "ccproxy")


# The common options.


@pytest.mark.parametrize("place", ["before", "behind"])
def test_common_options_stand_before_or_behind_the_verb(place, ccproxy, home, tmp_path_factory):
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    option, verb = ["-c", home / "ccproxy.toml"], ["cleanup", "--dry-run"]
    result = ccproxy(*(option + verb if place == "before" else verb + option))
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("environ", "args", "expected"),
    [
        pytest.param({"TERM": "xterm"}, [], True, id="colour on a terminal"),
        pytest.param({"TERM": "xterm", "NO_COLOR": "1"}, [], False, id="NO_COLOR"),
        pytest.param({"TERM": "dumb"}, [], False, id="a dumb terminal"),
        pytest.param({"TERM": "xterm"}, ["--no-color"], False, id="--no-color"),
        pytest.param({"TERM": "dumb", "FORCE_COLOR": "1"}, [], True, id="FORCE_COLOR wins"),
    ],
)
def test_colour_on_a_terminal(environ, args, expected, home):
    ours, theirs = pty.openpty()
    keep = {name: value for name, value in os.environ.items() if name != "TERM"}
    subprocess.run(
        command(*args, "status", "nobody"), stderr=theirs, env={**keep, **environ}, check=False
    )
    os.close(theirs)
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    assert "is not in the table" in shown
    assert ("\x1b[" in shown) is expected


@pytest.mark.parametrize("name", ["FORCE_COLOR", "CLICOLOR_FORCE"])
def test_colour_in_a_pipe_only_where_it_is_forced(name, process, home):
    plain = process("status", "nobody")
    forced = process("status", "nobody", env={**os.environ, name: "1"})
    assert "\x1b" not in plain.stderr
    assert "\x1b[31m" in forced.stderr


# Errors.


def raising(error):
    @click.command()
    def broken():
        raise error

    group = main.CcproxyGroup("ccproxy")
    group.get_command = lambda ctx, name: broken
    group.resolve_command = lambda ctx, args: ("broken", broken, [])
    return group


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CcproxyError("no"), 1),
        (errors.UsageError("no"), 2),
        (errors.NotRunning("no"), 3),
        (errors.PortInUse("no"), 5),
        (errors.Busy("no"), 6),
        (errors.NotReady("no"), 7),
        (ConfigError([Mistake(file=Path("x"), line=1, text="no")]), 78),
        (KeyboardInterrupt(), 130),
        (PermissionError(13, "Permission denied", "/etc/x"), 1),
    ],
)
def test_each_error_has_its_exit_code_and_no_traceback(error, code):
    result = CliRunner().invoke(raising(error), ["broken"])
    assert result.exit_code == code
    assert "Traceback" not in result.output
    assert result.stderr.startswith(("error: ", "interrupted", "\ninterrupted"))


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        pytest.param(errno.EROFS, "move ccproxy.toml and envs/ to a folder", id="for reading only"),
        pytest.param(errno.EACCES, "; ls -ld {place}\n", id="somebody else's"),
        pytest.param(errno.EPERM, "; ls -ld {place}\n", id="not permitted"),
        pytest.param(errno.ENOSPC, "make room on that disk; df -h {place}\n", id="full"),
        pytest.param(errno.EDQUOT, "make room on that disk; df -h {place}\n", id="no quota left"),
    ],
)
def test_what_the_system_refuses_comes_with_a_fix(number, fix, tmp_path):
    file = tmp_path / "is not" / "there"
    result = CliRunner().invoke(raising(OSError(number, "No", str(file))), ["broken"])
    assert result.stderr.startswith(f"error: {file}: No\n  fix: ")
    assert fix.format(place=tmp_path) in result.stderr


STEERING = "a\x1b]0;pwned\x07"


@pytest.mark.parametrize(
    "error",
    [
        errors.CcproxyError(f"no\n  fix: {STEERING}"),
        click.UsageError(f"no {STEERING}"),
        click.ClickException(f"no {STEERING}"),
        ConfigError([Mistake(file=Path("x"), line=1, text="no", fix=STEERING)]),
        ConfigError([Mistake(file=Path(STEERING), line=1, text="no")]),
        PermissionError(13, "Permission denied", f"/{STEERING}/x"),
    ],
)
def test_no_error_steers_the_terminal(error):
    result = CliRunner().invoke(raising(error), ["broken"])
    assert not set("\x1b\x07") & set(result.stderr)
    assert "a\\x1b]0;pwned\\x07" in result.stderr


@pytest.mark.parametrize("words", [["--label"], ["--preset"], [], ["init"]])
def test_nothing_that_was_typed_steers_the_terminal(words, ccproxy):
    result = ccproxy("init", "--no-input", *words, STEERING)
    assert result.exit_code == 2
    assert not set("\x1b\x07") & set(result.stderr)


def test_no_folder_steers_the_terminal(tmp_path, monkeypatch, process):
    folder = tmp_path / STEERING
    folder.mkdir()
    (folder / "ccproxy.toml").write_text('proxies = ["18081:demo.env:Demo"]')
    (folder / "demo.env").write_text("PROVIDER=demo\n")
    (folder / "demo.env").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    for verb in ("status", "check", "cleanup", "doctor"):
        said = process("-c", folder / "ccproxy.toml", verb)
        assert not set("\x1b\x07") & set(said.stdout + said.stderr), verb
        assert "a\\x1b]0;pwned" in said.stdout + said.stderr, verb


def test_every_exit_code_is_explained_in_the_help(ccproxy):
    shown = ccproxy("--help").stdout
    for code in {0, 2, *EXIT_CODES.values()}:
        assert f"\n  {code:<5}{MEANINGS[code]}\n" in shown


def test_without_a_verb_there_is_help(ccproxy):
    result = ccproxy()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == ccproxy("--help").stdout


def test_every_error_of_ours_has_an_exit_code():
    ours = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    edge = {kind for kind in ours if issubclass(kind, errors.CcproxyError)}
    answers = {kind for kind in edge if issubclass(kind, errors.Problem)}
    assert edge - answers <= set(EXIT_CODES)


def test_a_mistake_is_told_with_place_and_fix(ccproxy, home):
    (home / "ccproxy.toml").write_text('proxies = ["18081:envs/kimi.env:Kimi", "0:a:b"]')
    result = ccproxy("cleanup")
    assert result.exit_code == 78
    assert result.stderr == (
        'error: the port must be from 1 to 65535, got "0"\n'
        "  ccproxy.toml:1\n"
        "  fix: choose a whole number from 1 to 65535\n"
    )


def test_a_missing_table_is_told_with_the_places(ccproxy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = ccproxy("status")
    assert result.exit_code == 78
    assert "ccproxy.toml: neither in this folder nor above it" in result.stderr
    assert "-c FILE or $CCPROXY_CONFIG" in result.stderr
    assert "\n  ccproxy.toml\n" not in result.stderr  # a place that nobody can look at


def test_a_fault_of_ours_is_a_sentence_too():
    code = (
        "import sys; from ccproxy.cli import main\n"
        "main.cli.get_command = lambda *_: 1 / 0\n"
        "sys.argv = ['ccproxy', 'start'{}]\n"
        "main.main()\n"
    )
    run = [sys.executable, "-c"]
    quiet = subprocess.run([*run, code.format("")], capture_output=True, text=True, check=False)
    loud = subprocess.run(
        [*run, code.format(", '--debug'")], capture_output=True, text=True, check=False
    )
    assert quiet.returncode == loud.returncode == 1
    assert "error: ccproxy itself failed: ZeroDivisionError" in quiet.stderr
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr


def test_a_reader_that_leaves_is_no_error(home):
    (home / "logs").mkdir()
    (home / "logs" / "Kimi-K2.log").write_text("x\n" * 200_000)
    child = subprocess.Popen(
        command("logs", "-n", "200000"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child.stdout.readline()
    child.stdout.close()
    assert child.stderr.read() == ""
    child.stderr.close()
    assert child.wait() == 1


def test_signs_are_ascii_where_the_encoding_has_no_others(process, home):
    result = process("env", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert result.returncode == 2
    assert result.stderr.isascii()


def test_what_resembles_no_command_is_answered_with_the_help(ccproxy):
    said = ccproxy("frobnicate")
    assert said.exit_code == 2
    assert said.stderr == 'error: "frobnicate" is not a command\n  fix: ccproxy --help\n'
