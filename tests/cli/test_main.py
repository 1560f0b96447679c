"""The command line: lazy commands, errors, exit codes and colors."""

from __future__ import annotations

import errno
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ccproxy import __version__, errors
from ccproxy.cli import main
from ccproxy.cli.command import ALIASES, FOLDER, commands
from ccproxy.cli.exit_codes import MEANINGS, exit_code_of
from ccproxy.cli.main import cli
from ccproxy.cli.suggestions import READ_ONLY
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


# The commands.


def test_help_lists_every_command_with_its_summary_and_imports_none(ccproxy):
    modules = imported_by("--help")
    assert modules & HEAVY == set()
    assert not [name for name in modules if name.startswith("ccproxy.cli.commands.")]
    output_text = ccproxy("--help").stdout
    for name, file in commands().items():
        assert re.search(rf"^  {name} +{re.escape(file.summary())}$", output_text, re.MULTILINE), (
            name
        )


def test_help_groups_the_commands_and_fits_a_screen(ccproxy):
    output_text = ccproxy("--help").stdout
    titles = re.findall(r"^(\S[^:]*):$", output_text, re.MULTILINE)
    assert titles == ["Options", "Daily use", "Sessions", "Inspect", "Set-up", "Service"]
    assert len(output_text.splitlines()) <= 68


def test_a_new_file_is_a_new_command(tmp_path):
    """No other file needs a change, neither for the help nor to run the command."""
    package = tmp_path / "ccproxy"
    shutil.copytree(Path(main.__file__).parents[1], package)
    file = package / "cli" / "commands" / "inspect" / "greet_me.py"
    file.write_text(
        '"""Print a greeting."""\n'
        "import click\n"
        "from ccproxy.cli.command import command\n"
        "@command('ccproxy greet-me')\n"
        "def greet_me(options):\n"
        '    """Print a greeting."""\n'
        "    click.echo('hello')\n"
    )
    run = [sys.executable, "-P", "-m", "ccproxy"]
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    output_text = subprocess.check_output([*run, "--help"], env=environ, text=True)
    assert re.search(r"^  greet-me +Print a greeting\.$", output_text, re.MULTILINE)
    assert subprocess.check_output([*run, "greet-me"], env=environ, text=True) == "hello\n"


def test_the_help_of_every_command_needs_no_table_and_shows_examples(
    ccproxy, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in commands():
        result = ccproxy(name, "--help")
        assert result.exit_code == 0, name
        assert result.stdout.split("Examples:")[1].count("ccproxy ") >= 2, name


@pytest.mark.parametrize("name", commands())
def test_every_option_is_explained_and_its_value_has_a_name(name):
    """The help shows `-n N  The number of lines.`, not `-n INTEGER RANGE`."""
    command = commands()[name].load()
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"--{option.name} has no help"
            assert option.help.split("  [")[0].endswith((".", "…")), option.help
            metavar = "" if option.is_flag else option.make_metavar(click.Context(command))
            assert metavar not in ("INTEGER RANGE", "TEXT", "FLOAT RANGE")


def test_every_command_has_the_name_of_its_file_and_a_summary():
    for name, file in commands().items():
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.name == name
        assert command.callback.__module__.endswith(f".{file.group}.{file.path.stem}")
        assert file.summary().endswith("."), name
        assert len(file.summary()) <= 57, name  # fits one line of 80 columns in the main help


def test_every_group_of_commands_has_a_title():
    groups = {file.group for file in commands().values()}
    assert groups == {path.name for path in FOLDER.iterdir() if (path / "__init__.py").is_file()}
    assert groups <= set(main.GROUPS)


def test_the_help_of_a_command_loads_no_heavy_module():
    """One process prints the help of every command, and reports commands that load too much."""
    code = f"""if True:
        import contextlib, io, sys
        from ccproxy.cli.main import cli
        for name in {[*commands(), *ALIASES]}:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
                cli.main([name, "--help"])
            for module in {HEAVY!r} & sys.modules.keys():
                print(f"{{name}} loads {{module}}")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""


# Unknown commands.


@pytest.mark.parametrize(
    ("typed", "meant"), [("statsu", "status"), ("lgos", "logs"), ("usgae", "usage")]
)
def test_a_misspelt_command_is_answered_with_the_closest_one(typed, meant, ccproxy):
    result = ccproxy(typed)
    assert result.exit_code == 2
    expected = (
        f'Error: "{typed}" is not a command (did you mean "{meant}"?)\n  fix: ccproxy {meant}\n'
    )
    assert result.stderr == expected


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("watch", "top"),
        ("monitor", "top"),
        ("stat", "status"),
        ("list", "status"),
        ("config", "check"),
        ("add", "init"),
        ("tail", "logs -f"),
        ("log", "logs -f"),
        ("test", "doctor --online"),
        ("prices", "models"),
        ("code", "run LABEL -- claude"),
        ("claude", "run LABEL -- claude"),
        ("cost", "usage"),
    ],
)
def test_a_related_word_leads_to_the_right_command(typed, line, ccproxy):
    result = ccproxy(typed)
    assert result.exit_code == 2
    assert result.stderr == f'Error: "{typed}" is not a command\n  fix: ccproxy {line}\n'


def test_update_names_how_to_upgrade(ccproxy):
    result = ccproxy("update")
    assert result.exit_code == 2
    assert "pip install --upgrade ccproxy-fleet" in result.stderr


CHANGES_STATE = {
    *("start", "stop", "restart", "reload", "switch", "toggle", "cleanup", "import"),
    *("install-service", "uninstall-service", "up", "interactive"),
}


def test_no_suggestion_names_a_command_that_changes_something(ccproxy):
    """This includes misspellings: `stat` must not lead to `start`, nor `top` to `stop`."""
    assert not set(READ_ONLY) & CHANGES_STATE
    typed = [
        *("top", "watch", "monitor", "stat", "list", "config", "add", "rm", "tail", "test"),
        *("prices", "code", "ui", "update", "statr", "sto", "strat", "reastart", "swich", "cleanp"),
    ]
    for typed_name in (typed_name for typed_name in typed if typed_name not in commands()):
        result = ccproxy(typed_name)
        suggested = re.findall(
            r"(?:did you mean \"|fix: ccproxy )([a-z-]+)(?! --help)", result.stderr
        )
        assert result.exit_code == 2, typed_name
        assert not set(suggested) & CHANGES_STATE, result.stderr


def test_a_word_that_resembles_no_command_leads_to_the_help(ccproxy):
    result = ccproxy("xyzzy")
    assert (result.exit_code, result.stderr) == (
        2,
        'Error: "xyzzy" is not a command\n  fix: ccproxy --help\n',
    )


def test_an_invalid_option_names_the_help_of_its_command(ccproxy):
    result = ccproxy("cleanup", "--older-than", "soon")
    assert result.exit_code == 2
    assert 'must be a duration such as 15s, 10m, 12h or 3d, got "soon"' in result.stderr
    assert "fix: ccproxy cleanup --help" in result.stderr


@pytest.mark.parametrize("args", [["--version"], ["version"]])
def test_the_version(args, ccproxy):
    assert ccproxy(*args).stdout == f"ccproxy {__version__}\n".replace("ccproxy,", "ccproxy")


# The common options.


@pytest.mark.parametrize("position", ["before", "behind"])
def test_common_options_can_precede_or_follow_the_command(
    position, ccproxy, home, tmp_path_factory
):
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    option, verb = ["-c", home / "ccproxy.toml"], ["cleanup", "--dry-run"]
    result = ccproxy(*(option + verb if position == "before" else verb + option))
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
    output_text = os.read(ours, 4096).decode()
    os.close(ours)
    assert "is not in the table" in output_text
    assert ("\x1b[" in output_text) is expected


@pytest.mark.parametrize("name", ["FORCE_COLOR", "CLICOLOR_FORCE"])
def test_colour_in_a_pipe_only_if_forced(name, process, home):
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
    assert result.stderr.startswith(("Error: ", "interrupted", "\ninterrupted"))


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        pytest.param(
            errno.EROFS,
            "move ccproxy.toml and envs/ to a writable folder",
            id="a read-only file system",
        ),
        pytest.param(errno.EACCES, "; ls -ld {path}\n", id="of another user"),
        pytest.param(errno.EPERM, "; ls -ld {path}\n", id="not permitted"),
        pytest.param(errno.ENOSPC, "free some space on that disk; df -h {path}\n", id="full"),
        pytest.param(
            errno.EDQUOT, "free some space on that disk; df -h {path}\n", id="no quota left"
        ),
    ],
)
def test_an_error_of_the_system_comes_with_a_fix(number, fix, tmp_path):
    file = tmp_path / "is not" / "there"
    result = CliRunner().invoke(raising(OSError(number, "No", str(file))), ["broken"])
    assert result.stderr.startswith(f"Error: {file}: No\n  fix: ")
    assert fix.format(path=tmp_path) in result.stderr


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
def test_control_characters_in_errors_are_escaped(error):
    result = CliRunner().invoke(raising(error), ["broken"])
    assert not set("\x1b\x07") & set(result.stderr)
    assert "a\\x1b]0;pwned\\x07" in result.stderr


@pytest.mark.parametrize("words", [["--label"], ["--preset"], [], ["init"]])
def test_control_characters_in_arguments_are_escaped(words, ccproxy):
    result = ccproxy("init", "--no-input", *words, STEERING)
    assert result.exit_code == 2
    assert not set("\x1b\x07") & set(result.stderr)


def test_control_characters_in_paths_are_escaped(tmp_path, monkeypatch, process):
    folder = tmp_path / STEERING
    folder.mkdir()
    (folder / "ccproxy.toml").write_text('proxies = ["18081:demo.env:Demo"]')
    (folder / "demo.env").write_text("PROVIDER=demo\n")
    (folder / "demo.env").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    for verb in ("status", "check", "cleanup", "doctor"):
        report = process("-v", "-c", folder / "ccproxy.toml", verb)
        assert not set("\x1b\x07") & set(report.stdout + report.stderr), verb
        assert "a\\x1b]0;pwned" in report.stdout + report.stderr, verb


def test_every_exit_code_is_explained(ccproxy):
    output_text = ccproxy("help", "exit-codes").stdout
    for code, meaning in MEANINGS.items():
        assert f"{code:>5}  {meaning}\n" in output_text
    ours = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    raised = {kind for kind in ours if issubclass(kind, errors.CcproxyError)}
    codes = {exit_code_of(kind.__new__(kind)) for kind in raised}
    assert codes <= set(MEANINGS)


def test_help_of_a_command_is_that_of_its_option(ccproxy):
    assert ccproxy("help", "status").stdout == ccproxy("status", "--help").stdout
    assert ccproxy("help").stdout == ccproxy("--help").stdout
    result = ccproxy("help", "statsu")
    assert result.exit_code == 2
    assert '"statsu" is not a command (did you mean "status"?)' in result.stderr


def test_without_a_command_the_help_is_shown(ccproxy):
    result = ccproxy()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == ccproxy("--help").stdout


def test_a_mistake_is_reported_with_its_line_and_fix(ccproxy, home):
    (home / "ccproxy.toml").write_text('proxies = ["18081:envs/kimi.env:Kimi", "0:a:b"]')
    result = ccproxy("cleanup")
    assert result.exit_code == 78
    assert result.stderr == (
        'Error: the port must be from 1 to 65535, got "0"\n'
        "  ccproxy.toml:1\n"
        "  fix: choose a whole number from 1 to 65535\n"
    )


def test_without_a_table_the_first_step_is_named(ccproxy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("start", "stop", "status", "reload", "check", "usage", "logs", "keys"):
        result = ccproxy(name)
        assert (result.exit_code, result.stdout) == (78, ""), name
        assert result.stderr == "No providers yet. Run: ccproxy init\n", name
    verbose = ccproxy("-v", "status")
    assert verbose.exit_code == 78
    assert "ccproxy.toml: neither in this folder nor above it" in verbose.stderr
    assert "-c FILE or $CCPROXY_CONFIG" in verbose.stderr


def test_a_named_table_that_is_missing_is_an_error(ccproxy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = ccproxy("-c", "none.toml", "status")
    assert result.exit_code == 78
    assert result.stderr.startswith("Error: this file does not exist (set by --config)\n")


def test_an_internal_error_is_a_sentence():
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
    assert "Error: internal error in ccproxy: ZeroDivisionError" in quiet.stderr
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr


def test_a_closed_pipe_is_not_an_error(home):
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


@pytest.mark.parametrize(
    ("words", "most"),
    [
        ("start --timeout 101d", "100d"),
        ("restart --timeout 999999999w", "100d"),
        ("reload --drain 999999999w", "100d"),
        ("stop --drain 101d", "100d"),
        ("usage --since 3651d", "3650d"),
        ("logs --since 999999999w", "3650d"),
        ("cleanup --older-than 999999999w", "3650d"),
        ("switch kimi-k2 --reset --wait 999999999w", "3650d"),
    ],
)
def test_a_duration_that_is_too_long_is_an_error(words, most, ccproxy, home):
    result = ccproxy(*words.split())
    assert result.exit_code == 2
    assert f'must be at most {most}, got "{words.split()[-1]}"' in result.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_is_not_an_error(closed, home):
    """The files that the command opens do not get the descriptor of the stream."""
    shell = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh"]
    for words, code in ((["check"], 0), (["nonsense"], 2)):
        done = subprocess.run([*shell, *command(*words)], capture_output=True, check=False)
        assert (done.returncode, b"internal" in done.stderr) == (code, False), done.stderr


@pytest.mark.parametrize("words", [["check"], ["-c", "../other.toml", "check"]])
def test_a_deleted_current_folder_is_reported(words, tmp_path):
    folder = tmp_path / "deleted"
    folder.mkdir()
    script = 'rmdir "$PWD"; exec "$@"'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", *command(*words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert "internal error" not in done.stderr
    assert done.returncode in (1, 78)


def test_marks_are_ascii_if_the_encoding_lacks_them(process, home):
    result = process("env", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert result.returncode == 2
    assert result.stderr.isascii()
