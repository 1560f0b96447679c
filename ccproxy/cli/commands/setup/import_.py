"""`ccproxy import`: takes over the models of a models.yaml."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from ccproxy.cli.render.pasted import pasted
from ccproxy.cli.render.terminal import clean, counted, near, show
from ccproxy.cli.selection import open_fleet
from ccproxy.cli.setup.models_yaml import Imported, env_text, read_models
from ccproxy.cli.setup.user_files import (
    alone,
    append,
    check_new,
    entry_text,
    ports_besides,
    without_secrets,
    write_new,
)
from ccproxy.cli.verb import Options, Verb
from ccproxy.config.fleet import Fleet


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
    check_new(files)
    table = _table(fleet, found, files)
    for one, path in zip(found, files, strict=True):
        show(click.style(f"{near(path)}", bold=True))
        show(without_secrets(env_text(one, key=_key(one))))
        _note(one)
    show(click.style(f"{near(fleet.file)}, at its end", bold=True))
    show(table)
    if not write:
        show(pasted(f"Nothing was written.  Next:  ccproxy import {near(file)} --write"))
        return
    with alone(fleet.home):
        _write(fleet, table, {path: one for one, path in zip(found, files, strict=True)})
    wrote = f"Wrote {counted(len(files), 'env file')} and {near(fleet.file)}."
    show(pasted(f"{wrote}  Next:  ccproxy check"))


def _write(fleet: Fleet, table: str, files: Mapping[Path, Imported]) -> None:
    """Write the env files and the entries; if that fails, none of them is there."""
    written = []
    try:
        for path, one in files.items():
            write_new(path, env_text(one, key=_key(one)))
            written.append(path)
        append(fleet.file, table)
    except BaseException:
        for path in written:
            path.unlink()
        raise


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


def _key(one: Imported) -> str | None:
    """Return the key that the environment holds for *one*; None if none is there."""
    return os.environ.get(one.key_name) or None


def _note(one: Imported) -> None:
    if one.key_name and _key(one) is None:
        show(f"  ! ${clean(one.key_name)} is not set: put the key into the file\n")
    if one.left_out:
        show(f"  ! left out: {clean(', '.join(one.left_out))}\n")


def _table(fleet: Fleet, found: Sequence[Imported], files: Sequence[Path]) -> str:
    """Return the entries of what was *found*."""
    ports = ports_besides({entry.port for entry in fleet.entries})
    return "\n".join(
        entry_text(port, f"envs/{path.name}", one.label)
        for one, path, port in zip(found, files, ports, strict=False)
    )
