"""`ccproxy import`: takes over the models of a models.yaml."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from ccproxy.cli.choose import open_fleet
from ccproxy.cli.modelsyaml import Imported, env_text, read_models
from ccproxy.cli.pasting import pasted
from ccproxy.cli.terminal import clean, counted, near, show
from ccproxy.cli.verb import Options, Verb
from ccproxy.config.fleet import Fleet
from ccproxy.config.parsers import masked
from ccproxy.errors import UsageError

_FIRST_PORT = 8081


@click.command(
    "import",
    cls=Verb,
    examples=["ccproxy import models.yaml", "ccproxy import models.yaml --write"],
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--write", is_flag=True, help="Write the files; without it they are only shown.")
@click.pass_obj
def import_(options: Options, file: Path, *, write: bool) -> None:
    """
    Turn the models of FILE, a models.yaml in either form, into entries and env files.

    Each model becomes a proxy of its own. Keys come from the environment variables that FILE
    names. Nothing is overwritten, and nothing written without --write.
    """
    fleet = open_fleet(options)
    found = read_models(file, taken=[entry.label for entry in fleet.entries])
    found = [one for one in found if not _is_there(fleet, one)]
    if not found:
        return
    files = [fleet.home / "envs" / f"{one.label.lower()}.env" for one in found]
    _check_new(files)
    table = _table(fleet, found, files)
    for one, path in zip(found, files, strict=True):
        show(click.style(f"{near(path)}", bold=True))
        show(_masked(env_text(one, key=_key(one))))
        _note(one)
    show(click.style(f"{near(fleet.file)}, at its end", bold=True))
    show(table)
    if not write:
        show(pasted(f"Nothing was written.  Next:  ccproxy import {near(file)} --write"))
        return
    for one, path in zip(found, files, strict=True):
        _write_new(path, env_text(one, key=_key(one)))
    _append(fleet.file, table)
    wrote = f"Wrote {counted(len(files), 'env file')} and {near(fleet.file)}."
    show(pasted(f"{wrote}  Next:  ccproxy check"))


def _is_there(fleet: Fleet, one: Imported) -> bool:
    """Tell whether an entry asks the same model at the same address, and say so."""
    from ccproxy.config import settings
    from ccproxy.config.reader import read_file

    wanted = (one.settings["PROVIDER_BASE_URL"], one.settings["BIG_MODEL"])
    for entry in fleet.entries:
        env = read_file(entry.env_file, entry=entry)
        if (env.read(settings.PROVIDER_BASE_URL), env.read(settings.BIG_MODEL)) == wanted:
            show(f"{clean(wanted[1])} is there already, as {entry.label}")
            return True
    return False


def _masked(text: str) -> str:
    """Return *text* with every line harmless to a terminal, and no key in it."""
    lines = []
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        secret = name.startswith("CUSTOM_HEADER_") or name == "PROVIDER_API_KEY"
        lines.append(f"  {clean(name + equals + masked(value) if secret else line)}")
    return "\n".join(lines) + "\n"


def _key(one: Imported) -> str | None:
    """Return the key that the environment holds for *one*; None if none is there."""
    return os.environ.get(one.key_name) or None


def _note(one: Imported) -> None:
    if one.key_name and _key(one) is None:
        show(f"  ! ${clean(one.key_name)} is not set: put the key into the file\n")
    if one.left_out:
        show(f"  ! left out: {clean(', '.join(one.left_out))}\n")


def _check_new(files: Sequence[Path]) -> None:
    there = [path for path in files if path.exists()]
    if there:
        names = ", ".join(near(path) for path in there)
        raise UsageError(f"nothing is overwritten, but there is {names}\n  fix: move it away")


def _table(fleet: Fleet, found: Sequence[Imported], files: Sequence[Path]) -> str:
    """Return the entries in the table's long form, which may stand behind anything."""
    taken = {entry.port for entry in fleet.entries}
    ports = (port for port in range(_FIRST_PORT, 65536) if port not in taken)
    return "\n".join(
        f'[[proxy]]\nport = {port}\nenv_file = "envs/{path.name}"\nlabel = "{one.label}"\n'
        for one, path, port in zip(found, files, ports, strict=False)
    )


def _write_new(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _append(table: Path, text: str) -> None:
    """Add *text* to the table by way of a new file, so that it is never there by half."""
    old = table.read_text(encoding="utf-8")
    new = f"{old.rstrip()}\n\n{text}"
    with tempfile.NamedTemporaryFile("w", dir=table.parent, delete=False, encoding="utf-8") as file:
        file.write(new)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(table.stat().st_mode & 0o777)
    Path(file.name).replace(table)
