"""Edit a provider's env file, or the table, and check it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.render.error_text import error_text
from ccproxy.cli.render.terminal import notify, print_error, short_path
from ccproxy.cli.selection import choose_one, complete_label, open_readable_part
from ccproxy.cli.single_proxy import require_table
from ccproxy.errors import CcproxyError, ConfigError, UsageError

_EDITORS = ("sensible-editor", "nano", "vim", "vi")


@command(
    "ccproxy edit kimi      # its env file",
    "ccproxy edit           # the table",
)
@click.argument("label", required=False, shell_complete=complete_label)
def edit(options: Options, label: str | None) -> None:
    """
    Open the env file of LABEL, or the table if no LABEL is given, in $VISUAL or $EDITOR.

    The configuration is checked afterwards; if it has errors, the file can be edited again. A
    running fleet is not changed until `ccproxy reload`.
    """
    if not sys.stdin.isatty():
        raise UsageError("edit needs a terminal\n  fix: run it in a terminal")
    fleet, _ = open_readable_part(options)
    require_table(fleet)
    path = choose_one(fleet, label).env_file if label else fleet.file
    command = editor_command(os.environ)
    before = _content(path)
    while True:
        try:
            code = subprocess.call([*command, str(path)])  # noqa: S603 - the user's own editor
        except OSError as error:
            text = f"cannot run the editor {command[0]}: {error.strerror}"
            raise CcproxyError(f"{text}\n  fix: correct $VISUAL or $EDITOR") from error
        if code != 0:
            raise CcproxyError(f"{command[0]} failed with exit code {code}")
        mistakes = _check(fleet.file)
        if mistakes is None:
            break
        print_error(error_text(mistakes))
        if not click.confirm("Edit it again?", default=True, err=True):
            raise SystemExit(78)
    if _content(path) == before:
        notify(options, f"{short_path(path)} is unchanged.")
    else:
        notify(options, f"{short_path(path)} is valid.  Next:  ccproxy reload")


def editor_command(environ: Mapping[str, str]) -> list[str]:
    """Return the user's editor as a command; UsageError if it is missing or badly quoted."""
    for name in ("VISUAL", "EDITOR"):
        try:
            words = shlex.split(environ.get(name, ""))
        except ValueError as error:
            raise UsageError(
                f"${name} is not a valid command: {error}\n  fix: export {name}=…"
            ) from error
        if words:
            return words
    program = next(filter(None, map(shutil.which, _EDITORS)), None)
    if program is None:
        raise UsageError("no editor is installed\n  fix: export EDITOR=…")
    return [program]


def _check(table: Path) -> ConfigError | None:
    from ccproxy.config.fleet_check import load_all  # reads presets: too slow to load for --help

    try:
        load_all(table)
    except ConfigError as error:
        return error
    return None


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
