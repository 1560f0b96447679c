"""`ccproxy env`: what points a shell at a provider."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from ccproxy.cli.render.terminal import clean, near, say, show
from ccproxy.cli.selection import choose_one, complete_label, open_fleet
from ccproxy.cli.verb import Options, Verb
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.errors import UsageError

_PWSH_QUOTES = str.maketrans({quote: quote * 2 for quote in "'\u2018\u2019\u201a\u201b"})


@click.command(
    cls=Verb,
    examples=[
        'eval "$(ccproxy env kimi)"      # this shell talks to Kimi from now on',
        'eval "$(ccproxy env --unset)"   # and no longer',
        "ccproxy env kimi --shell fish | source",
    ],
)
@click.argument("label", required=False, shell_complete=complete_label)
@click.option(
    "--shell",
    type=click.Choice(("bash", "zsh", "fish", "pwsh")),
    help="The shell that reads it. Default: the one of $SHELL.",
)
@click.option("--unset", is_flag=True, help="Remove everything that any label set.")
@click.option("--show", "reveal", is_flag=True, help="Print the token on a terminal, too.")
@click.pass_obj
def env(
    options: Options, label: str | None, *, shell: str | None, unset: bool, reveal: bool
) -> None:
    """
    Print the settings that point this shell's Claude Code at LABEL.

    They are the base URL, the token, the provider's model names and their limits; what another
    label set is removed. On a terminal, where nobody evaluates them, the token is masked.
    """
    # Reads presets and conversion settings: too slow to load for --help and completion.
    from ccproxy.cli.session.bypass_notice import is_off, warn_of_passing
    from ccproxy.cli.session.environment import TOKEN, no_session, session, window_note
    from ccproxy.config.answering import map_of
    from ccproxy.config.worker import load_worker

    shell = shell or shell_of(os.environ)
    if unset:
        show(script(no_session(), shell))
        return
    if label is None:
        raise UsageError("which provider?\n  fix: ccproxy env LABEL; ccproxy status lists them")
    fleet = open_fleet(options)
    entry = choose_one(fleet, label)
    config = load_worker(entry.env_file, entry=entry)
    passes_by = is_off(fleet, entry)
    settings = dict(session(config, os.environ, known=map_of(fleet), is_off=passes_by))
    if passes_by:
        warn_of_passing(options, config, os.environ)
    elif note := window_note(config, known=map_of(fleet)):
        say(options, f"note: {clean(note)}")
    warn_of_shadows(options, settings)
    token = settings[TOKEN]
    masked = sys.stdout.isatty() and not reveal
    if masked and config.client_keys and token:
        settings[TOKEN] = f"…{token[-4:]}" if len(token) >= 16 else "…"
    show(script(settings, shell))
    _warn_of_silence(options, fleet, entry)
    if masked:
        say(options, f"\nThis only shows them. To use them:  {_how_to_use(shell, entry.label)}")


def _warn_of_silence(options: Options, fleet: Fleet, entry: Entry) -> None:
    """Say so if nobody, or a stranger, would answer on the port of *entry*."""
    from ccproxy.supervisor.control.client import fleet_status

    rows = [row for row in fleet_status(fleet).proxies if row.label == entry.label]
    if any(row.state == "foreign" for row in rows):
        reason = rows[0].reason or f"port {entry.port} is in use by another program"
        say(options, f"note: {clean(reason)}")
    elif all(row.state == "stopped" for row in rows):
        say(
            options,
            f"note: {entry.label} is not running; start it: ccproxy start {entry.label}",
        )


def warn_of_shadows(options: Options, settings: Mapping[str, str | None]) -> None:
    """Name every setting of Claude Code's files that would win over *settings*."""
    from ccproxy.cli.session.environment import ACTIVE
    from ccproxy.cli.session.settings_files import find_shadows

    for shadow in find_shadows(settings, environ=os.environ, here=Path.cwd()):
        instead = f", or use: ccproxy run {settings[ACTIVE]} -- claude"
        fix = "remove it there" + ("" if shadow.managed else instead)
        say(
            options,
            f"warning: {near(shadow.file)} sets {shadow.key} and wins over the shell\n  fix: {fix}",
        )


def script(settings: Mapping[str, str | None], shell: str) -> str:
    """Write *settings* in the language of *shell*; None removes a variable."""
    write = _WRITERS.get(shell, _posix)
    return "\n".join(write(name, value) for name, value in settings.items())


def shell_of(environ: Mapping[str, str]) -> str:
    """Return the shell of the user, as far as the environment tells."""
    name = Path(environ.get("SHELL", "")).name
    if name in ("bash", "zsh", "fish", "pwsh"):
        return name
    return "pwsh" if not name and "PSModulePath" in environ else "bash"


# One variable in each language. The semicolon keeps an unquoted `eval $(ccproxy env …)` whole,
# and there are no comments: an interactive zsh would run them.


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


_WRITERS: Mapping[str, Callable[[str, str | None], str]] = {"fish": _fish, "pwsh": _pwsh}


def _how_to_use(shell: str, label: str) -> str:
    match shell:
        case "fish":
            return f"ccproxy env {label} --shell fish | source"
        case "pwsh":
            return f"ccproxy env {label} --shell pwsh | Out-String | Invoke-Expression"
        case _:
            return f'eval "$(ccproxy env {label})"'
