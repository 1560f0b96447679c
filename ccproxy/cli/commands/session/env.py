"""Print the settings that point a program at a provider."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.confirmation import confirm
from ccproxy.cli.render.terminal import notify, show, tilde
from ccproxy.cli.selection import complete_label, open_entry
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.errors import UsageError
from ccproxy.text import printable

if TYPE_CHECKING:
    from ccproxy.cli.session.claude_environment import Session

SHELLS = ("bash", "zsh", "fish", "pwsh")
PROGRAMS = ("vscode", "jetbrains", "desktop", "cowork")
_PWSH_QUOTES = str.maketrans({quote: quote * 2 for quote in "'\u2018\u2019\u201a\u201b"})


@command(
    'eval "$(ccproxy env kimi)"      # use Kimi in this shell',
    'eval "$(ccproxy env --unset)"   # undo this',
    "ccproxy env kimi --shell fish | source",
    "ccproxy env kimi --for vscode --write   # the extension for VS Code; asks first",
    "ccproxy env kimi --for desktop          # Claude Desktop and Cowork",
)
@click.argument("label", required=False, shell_complete=complete_label)
@click.option(
    "--shell",
    type=click.Choice(SHELLS),
    help="The shell to print the settings for.  [default: $SHELL]",
)
@click.option("--unset", is_flag=True, help="Unset every variable that ccproxy env sets.")
@click.option("--show", "reveal", is_flag=True, help="Show the token even on a terminal.")
@click.option(
    "--for", "program", type=click.Choice(PROGRAMS), help="Print the settings for another program."
)
@click.option(
    "--write",
    is_flag=True,
    help="With --for vscode: write the settings to settings.json; asks first.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def env(
    options: Options,
    label: str | None,
    *,
    shell: str | None,
    unset: bool,
    reveal: bool,
    program: str | None,
    write: bool,
    yes: bool,
) -> None:
    """
    Print the settings that connect Claude Code in this shell to LABEL.

    They are the base URL, the token, and the provider's model names and limits. Variables set for
    another label are unset. On a terminal the token is masked.

    \b
    With --for, print the settings for another program:
      vscode     settings of the Claude Code extension, in settings.json of VS Code
      jetbrains  the command of the Claude Code plugin (Settings, Tools, Claude Code)
      desktop    Claude Desktop: Developer, Configure Third-Party Inference
      cowork     the same as desktop: Cowork is part of Claude Desktop
    """  # noqa: D301 - \b makes click keep the lines
    if write and program != "vscode":
        raise UsageError(
            "--write requires --for vscode\n  fix: for other programs, paste the printed settings"
        )
    if unset and (write or program is None):
        _undo(shell or detect_shell(os.environ), write=write, yes=yes)
        return
    if label is None:
        raise UsageError("no label\n  fix: ccproxy env LABEL; ccproxy status lists the labels")
    from ccproxy.cli.session.claude_environment import masked
    from ccproxy.cli.session.preparation import plan_session

    fleet, entry = open_entry(options, label)
    plan, label = plan_session(fleet, entry), entry.label
    is_masked = not reveal and sys.stdout.isatty()
    if program is not None:
        if write:
            _write_vscode(plan.session, label, yes=yes)
        else:
            variables = masked(plan.session) if is_masked else plan.session
            show(_text_for(program, variables, label))
        plan.warn_about_proxy(options)
        _warn_if_not_running(options, fleet, entry)
        return
    shell = shell or detect_shell(os.environ)
    show(script(masked(plan.session) if is_masked else plan.session, shell))
    plan.warn(options, is_claude=False)
    _warn_if_not_running(options, fleet, entry)
    if is_masked:
        notify(options, f"\nTo apply these settings:  {_command(shell, label)}")
    elif not sys.stdout.isatty():
        undo = _command(shell, "--unset")
        notify(options, f"This shell now uses {label}.  To undo:  {undo}")


def _undo(shell: str, *, write: bool, yes: bool) -> None:
    """Unset the variables in *shell*, or, with *write*, in the settings of VS Code."""
    from ccproxy.cli.session.claude_environment import no_session

    if write:
        _write_vscode({}, "--unset", yes=yes)
    else:
        show(script(no_session(), shell))


def _text_for(program: str, session: Session, label: str) -> str:
    """Return the settings that make *program* use *session*."""
    from ccproxy.cli.session.app_settings import desktop_profile, vscode_settings

    if program == "jetbrains":
        return f"ccproxy run {label} -- claude"
    document = vscode_settings(session, {}) if program == "vscode" else desktop_profile(session)
    return json.dumps(document, indent=2, ensure_ascii=False)


def _write_vscode(session: Session, label: str, *, yes: bool) -> None:
    """Write *session* to VS Code's settings; an empty one removes ccproxy's settings."""
    from ccproxy.cli.session.app_settings import vscode_file, vscode_settings
    from ccproxy.cli.session.claude_settings import read_user_settings, write_user_settings

    file = vscode_file(os.environ)
    try:
        present = read_user_settings(file)
    except UsageError as error:
        fix = f"if the file has comments, paste the output of: ccproxy env {label} --for vscode"
        raise UsageError(
            f"{tilde(file)} cannot be changed: it is not valid JSON\n  fix: {fix}"
        ) from error
    if vscode_settings(session, present) == present:
        show(f"Unchanged: {tilde(file)}")
        return
    token = ", which will then contain the token" if session else ""
    fix = f"ccproxy env {label} --for vscode --write --yes"
    confirm(f"Change {tilde(file)}{token}?", yes=yes, fix=fix)
    present = read_user_settings(file)  # the file may have changed in the meantime
    write_user_settings(file, vscode_settings(session, present))
    undo = "" if not session else "  To undo:  ccproxy env --unset --for vscode --write"
    show(f"Changed {tilde(file)}; reload the VS Code window.{undo}")


def _warn_if_not_running(options: Options, fleet: Fleet, entry: Entry) -> None:
    """Warn if the proxy does not answer, or if its files have changed since it started."""
    from ccproxy.cli.render.outcome import UP, fix, warn_about_changes
    from ccproxy.supervisor.control.client import fleet_status

    for row in fleet_status(fleet).proxies:
        if row.label != entry.label:
            continue
        warn_about_changes(options, row)
        if row.state == "stopped":
            text = f"{row.label} is not running, so requests to it fail"
            notify(options, f"warning: {text}\n  fix: ccproxy start {row.label}")
        elif row.state not in UP:
            text = f"{row.label} does not answer: {printable(row.reason or row.state)}"
            notify(options, f"warning: {text}\n  fix: {fix(row)}")


def script(session: Mapping[str, str | None], shell: str) -> str:
    """Return the statements that apply *session* in *shell*; None unsets a variable."""
    statement = _STATEMENTS.get(shell, _posix)
    lines = [statement(name, value) for name, value in session.items()]
    if shell == "fish" and None in session.values():
        # `set -e` fails for an unset variable, and `… | source && claude` would then stop.
        lines.append("true;")
    return "\n".join(lines)


def detect_shell(environ: Mapping[str, str]) -> str:
    """Return the user's shell according to $SHELL; bash if that is not supported."""
    name = Path(environ.get("SHELL", "")).name
    if name in SHELLS:
        return name
    return "pwsh" if not name and "PSModulePath" in environ else "bash"


# The semicolons keep an unquoted `eval $(ccproxy env …)` working. There are no comments, because an
# interactive zsh would run them as commands.


def _posix(name: str, value: str | None) -> str:
    return f"unset {name};" if value is None else f"export {name}={shlex.quote(value)};"


def _fish(name: str, value: str | None) -> str:
    if value is None:
        return f"set -e {name};"
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{quoted}';"


def _pwsh(name: str, value: str | None) -> str:
    if value is None:
        return f"Remove-Item Env:{name} -ErrorAction SilentlyContinue;"
    return f"$env:{name} = '{value.translate(_PWSH_QUOTES)}';"


_STATEMENTS: Mapping[str, Callable[[str, str | None], str]] = {"fish": _fish, "pwsh": _pwsh}


def _command(shell: str, label: str) -> str:
    match shell:
        case "fish":
            return f"ccproxy env {label} --shell fish | source"
        case "pwsh":
            return f"ccproxy env {label} --shell pwsh | Out-String | Invoke-Expression"
        case _:
            return f'eval "$(ccproxy env {label})"'
