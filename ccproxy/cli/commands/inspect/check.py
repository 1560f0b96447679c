"""Check the configuration without starting anything."""

from __future__ import annotations

from pathlib import Path

import click

from ccproxy.cli.command import Command, Options
from ccproxy.cli.render.terminal import short_path, show
from ccproxy.config.locations import find_config
from ccproxy.text import counted, printable


@click.command(
    cls=Command,
    examples=[
        "ccproxy check",
        "ccproxy check ~/other/ccproxy.toml",
        "ccproxy check envs/kimi.env      # a single env file",
    ],
)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.pass_obj
def check(options: Options, file: Path | None) -> None:
    """
    Check ccproxy.toml and every env file that it names, or only FILE; start nothing.

    All mistakes are told at once, each with its place and fix. Exits with 78 if there is one.
    """
    # Reads presets and conversion settings: too slow to load for --help and completion.
    from ccproxy.cli.session.claude_environment import window_note
    from ccproxy.config.answering import map_of
    from ccproxy.config.check import load_all
    from ccproxy.config.worker import load_worker

    if file is not None and file.suffix != ".toml" and not file.is_dir():
        config = load_worker(file)
        model = printable(config.models.big or "any model")
        show(f"{short_path(file)} is in order: {config.provider_name}, {model}")
        if note := window_note(config):
            show(f"  note: {printable(note)}")
        return
    checked = load_all(find_config(options.config if file is None else str(file)))
    show(
        f"{short_path(checked.fleet.file)} is in order: {counted(len(checked.workers), 'provider')}"
    )
    labels = max(len(entry.label) for entry in checked.fleet.entries)
    for entry in checked.fleet.entries:
        worker = checked.workers[entry.label]
        keys = counted(len(worker.api_keys), "key")
        model = printable(worker.models.big or "any model")
        what = f"{worker.provider_name}, {keys}, {model}"
        show(f"  {entry.label:<{labels}}  {entry.port:>5}  {short_path(entry.env_file)}  {what}")
        if note := window_note(worker, fleet_map=map_of(checked.fleet)):
            show(f"  {'':<{labels}}  note: {printable(note)}")
