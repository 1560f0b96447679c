"""Print the settings that point this shell at a provider."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ccproxy.cli.command import Command, Options
from ccproxy.cli.render.terminal import notify, show
from ccproxy.cli.selection import choose_one, complete_label, open_fleet
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.errors import UsageError
from ccproxy.text import printable

if TYPE_CHECKING:
    from ccproxy.cli.session.claude_environment import Session

SHELLS = ("bash", "zsh", "fish", "pwsh")
_SHORTEST_MASKED = 16
"""Characters. A shorter key is hidden completely: four characters would reveal too much of it."""
_PWSH_QUOTES = str.maketrans({quote: quote * 2 for quote in "'\u2018\u2019\u201a\u201b"})


@click.command(
    cls=Command,
    examples=[
        'eval "$(ccproxy env kimi)"      # use Kimi in this shell',
        'eval "$(ccproxy env --unset)"   # undo it',
        "ccproxy env kimi --shell fish | source",
    ],
)
@click.argument("label", required=False, shell_complete=complete_label)
@click.option("--shell", type=click.Choice(SHELLS), help="The shell's syntax. Default: $SHELL.")
@click.option("--unset", is_flag=True, help="Unset every variable that ccproxy env sets.")
@click.option("--show", "reveal", is_flag=True, help="Show the token even on a terminal.")
@click.pass_obj
def env(
    options: Options, label: str | None, *, shell: str | None, unset: bool, reveal: bool
) -> None:
    """
    Print the settings that connect Claude Code in this shell to LABEL.

    They are the base URL, the token, and the provider's model names and limits. Variables that
    another label set are unset. On a terminal the token is masked.
    """
    shell = shell or detect_shell(os.environ)
    if unset:
        from ccproxy.cli.session.claude_environment import no_session

        show(script(no_session(), shell))
        return
    if label is None:
        raise UsageError("no label\n  fix: ccproxy env LABEL; ccproxy status lists the labels")
    plan = _plan(options, label)
    is_masked = sys.stdout.isatty() and not reveal
    show(script(plan.masked() if is_masked else plan.session, shell))
    _warn_if_not_running(options, plan.fleet, plan.entry)
    if is_masked:
        notify(options, f"\nTo apply these settings:  {_command(shell, plan.entry.label)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    fleet: Fleet
    entry: Entry
    session: Session
    has_client_key: bool

    def masked(self) -> Session:
        """Return the session with the client key masked."""
        from ccproxy.cli.session.claude_environment import TOKEN

        token = self.session[TOKEN]
        if not (self.has_client_key and token):
            return self.session
        return {**self.session, TOKEN: f"…{token[-4:] if len(token) >= _SHORTEST_MASKED else ''}"}


def _plan(options: Options, label: str) -> _Plan:
    """Read the entry's settings and print the warnings about them."""
    # Reads presets and conversion settings: too slow to load for --help and completion.
    from ccproxy.cli.session.claude_environment import session
    from ccproxy.cli.session.notices import is_bypassed, warn_about_conflicts, warn_about_proxy
    from ccproxy.config.answering import map_of
    from ccproxy.config.worker import load_worker

    fleet = open_fleet(options)
    entry = choose_one(fleet, label)
    config = load_worker(entry.env_file, entry=entry)
    fleet_map = map_of(fleet)
    bypassed = is_bypassed(fleet, entry)
    variables = session(config, os.environ, fleet_map=fleet_map, is_bypassed=bypassed)
    warn_about_proxy(options, config, fleet_map, bypassed=bypassed)
    warn_about_conflicts(options, variables)
    return _Plan(
        fleet=fleet, entry=entry, session=variables, has_client_key=bool(config.client_keys)
    )


def _warn_if_not_running(options: Options, fleet: Fleet, entry: Entry) -> None:
    """Note that the proxy is stopped, or that another program has its port."""
    from ccproxy.supervisor.control.client import fleet_status

    rows = [row for row in fleet_status(fleet).proxies if row.label == entry.label]
    if any(row.state == "foreign" for row in rows):
        reason = rows[0].reason or f"port {entry.port} is in use by another program"
        notify(options, f"note: {printable(reason)}")
    elif all(row.state == "stopped" for row in rows):
        label = entry.label
        notify(options, f"note: {label} is not running; start it: ccproxy start {label}")


def script(session: Mapping[str, str | None], shell: str) -> str:
    """Return the statements that apply *session* in *shell*; None unsets a variable."""
    statement = _STATEMENTS.get(shell, _posix)
    return "\n".join(statement(name, value) for name, value in session.items())


def detect_shell(environ: Mapping[str, str]) -> str:
    """Return the user's shell according to $SHELL; bash if it is another one."""
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
