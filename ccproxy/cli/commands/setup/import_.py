"""Add the models of a models.yaml as providers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from ccproxy.cli.command import Command, Options
from ccproxy.cli.render.command_lines import callable_here
from ccproxy.cli.render.terminal import short_path, show
from ccproxy.cli.selection import open_fleet
from ccproxy.cli.setup.config_edit import (
    append,
    check_new,
    entry_text,
    exclusive,
    free_ports,
    without_secrets,
    write_new,
)
from ccproxy.cli.setup.models_yaml import ImportedModel, env_text, read_models
from ccproxy.config.fleet import Fleet
from ccproxy.text import counted, printable


@click.command(
    "import",
    cls=Command,
    examples=["ccproxy import models.yaml", "ccproxy import models.yaml --write"],
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--write", is_flag=True, help="Write the files instead of only showing them.")
@click.pass_obj
def import_(options: Options, file: Path, *, write: bool) -> None:
    """
    Convert the models in FILE, a models.yaml, to entries and env files.

    Each model becomes its own proxy. Keys are read from the environment variables that FILE
    names. Existing files are never overwritten, and without --write nothing is written.

    \b
    FILE is a list of models, or a mapping from model ids to the other fields:
      - model_id: deepseek-chat                   # required
        api_base: https://api.deepseek.com/v1     # required
        api_key_name: DEEPSEEK_API_KEY            # or api_key: sk-…
        model_name: deepseek-chat                 # at the provider; default: model_id
        max_tokens: 8k                            # longest answer
        max_input_tokens: 128k                    # context window
        reasoning_effort: high
        extra_headers: {X-Team: blue}
        extra_body: {top_k: 40}
        direct: false                             # true: a Messages API, no conversion
    """  # noqa: D301 - \b makes click keep the lines
    fleet = open_fleet(options)
    models = read_models(file, existing_labels=[entry.label for entry in fleet.entries])
    models = [model for model in models if not _exists(fleet, model)]
    if not models:
        return
    paths = [fleet.home / "envs" / f"{model.label.lower()}.env" for model in models]
    check_new(paths)
    table = _entries(fleet, models, paths)
    for model, path in zip(models, paths, strict=True):
        show(click.style(short_path(path), bold=True))
        show(without_secrets(env_text(model, key=_key(model))))
        _show_notes(model)
    from ccproxy.cli.setup.new_proxy import table_to_extend  # reads presets

    show(click.style(f"at the end of {short_path(table_to_extend(fleet))}", bold=True))
    show(table)
    if not write:
        show(
            callable_here(f"Nothing was written.  Next:  ccproxy import {short_path(file)} --write")
        )
        return
    with exclusive(fleet.home):
        _write(fleet, table, dict(zip(paths, models, strict=True)))
    written = f"Wrote {counted(len(paths), 'env file')} and {short_path(table_to_extend(fleet))}."
    show(callable_here(f"{written}  Next:  ccproxy check"))


def _write(fleet: Fleet, table: str, files: Mapping[Path, ImportedModel]) -> None:
    """Write the env files and the entries, all or none of them."""
    from ccproxy.cli.setup.new_proxy import table_to_extend  # reads presets

    written = []
    try:
        for path, model in files.items():
            write_new(path, env_text(model, key=_key(model)))
            written.append(path)
        file = table_to_extend(fleet)
        if file.exists():
            append(file, table)
        else:
            write_new(file, table)
    except BaseException:
        for path in written:
            path.unlink()
        raise


def _exists(fleet: Fleet, model: ImportedModel) -> bool:
    """Return True, and report it, if an entry has the same model and address."""
    from ccproxy.config import settings
    from ccproxy.config.reader import read_file

    address, name = model.settings["PROVIDER_BASE_URL"], model.settings["BIG_MODEL"]
    for entry in fleet.entries:
        env = read_file(entry.env_file, entry=entry)
        if (env.read(settings.PROVIDER_BASE_URL), env.read(settings.BIG_MODEL)) == (address, name):
            show(f"{printable(name)} already exists as {entry.label}")
            return True
    return False


def _key(model: ImportedModel) -> str | None:
    """Return the key from the model's environment variable; None if it is not set."""
    return os.environ.get(model.key_name) or None


def _show_notes(model: ImportedModel) -> None:
    if model.key_name and _key(model) is None:
        show(f"  ! ${printable(model.key_name)} is not set: add the key to the file\n")
    if model.ignored:
        show(f"  ! ignored: {printable(', '.join(model.ignored))}\n")


def _entries(fleet: Fleet, models: Sequence[ImportedModel], paths: Sequence[Path]) -> str:
    """Return the entries of *models*, with free ports."""
    ports = free_ports({entry.port for entry in fleet.entries})
    return "\n".join(
        entry_text(port, f"envs/{path.name}", model.label)
        for model, path, port in zip(models, paths, ports, strict=False)
    )
