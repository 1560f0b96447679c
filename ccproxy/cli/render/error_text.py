"""Errors as text: `Error: what`, then where, then `fix: what to do`."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path

import click

from ccproxy.cli.confirmation import Declined
from ccproxy.cli.render.terminal import short_path
from ccproxy.errors import ConfigError, Mistake, NoFleetError
from ccproxy.text import printable, printable_lines

_FIX_OWNER = "run this as the owner of {path}, or use a folder that you own; ls -ld {path}"
_FIX_SPACE = "free some space on that disk; df -h {path}"
_FIX_BY_ERRNO = {
    errno.EROFS: "move ccproxy.toml and envs/ to a writable folder: logs/, pids/ and state/ are "
    "created next to them",
    errno.EACCES: _FIX_OWNER,
    errno.EPERM: _FIX_OWNER,
    errno.ENOSPC: _FIX_SPACE,
    errno.EDQUOT: _FIX_SPACE,
}


def error_text(error: Exception, *, verbose: bool = False) -> str:
    """Return the text that is printed for *error*; control characters in user input are escaped."""
    match error:
        case NoFleetError() if not verbose:
            return "No providers yet. Run: ccproxy init"
        case ConfigError():
            return "\n".join(_labelled(_mistake_text(mistake)) for mistake in error.mistakes)
        case click.UsageError():
            path = error.ctx.command_path if error.ctx is not None else "ccproxy"
            text = printable_lines(error.format_message()).rstrip(".")
            return _labelled(f"{text[:1].lower()}{text[1:]}\n  fix: {path} --help")
        case click.ClickException():
            return _labelled(printable_lines(error.format_message()))
        case Declined():
            return "Nothing was changed."
        case click.Abort():
            return "interrupted"
        case FileNotFoundError(filename=None) if _is_current_folder_gone():
            return _labelled("the current folder was deleted\n  fix: cd to another folder")
        case OSError(filename=str(name)):
            path = shlex.quote(str(_existing_part(name)))
            fix = _FIX_BY_ERRNO.get(error.errno or 0, "").format(path=path)
            text = f"{printable(name)}: {error.strerror}"
            return _labelled(f"{text}\n  fix: {printable(fix)}" if fix else text)
        case OSError(strerror=str(text)):
            return _labelled(text)
        case _:
            return _labelled(printable_lines(str(error)))


def _labelled(text: str) -> str:
    return f"{click.style('Error:', fg='red', bold=True)} {text}"


def _mistake_text(mistake: Mistake) -> str:
    where = short_path(mistake.file) + (f":{mistake.line}" if mistake.line is not None else "")
    text, *rest = (printable(line.strip()) for line in mistake.text.splitlines())
    if not any(line.startswith(where) for line in rest):
        rest.append(where)
    if mistake.fix:
        rest.append(f"fix: {printable_lines(mistake.fix)}")
    return "\n  ".join([text, *rest])


def _is_current_folder_gone() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _existing_part(name: str) -> Path:
    """Return the path *name* if it exists, else its nearest existing parent."""
    path = Path(name)
    return next((part for part in (path, *path.parents) if os.path.lexists(part)), path)
