"""Check the configuration without starting anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.learned_refusals import forget_learned, show_learned
from ccproxy.cli.render.table import Column, table
from ccproxy.cli.render.terminal import columns, short_path, show
from ccproxy.cli.selection import choose_one
from ccproxy.config.fleet import load_fleet
from ccproxy.config.locations import find_config
from ccproxy.text import counted, printable

if TYPE_CHECKING:
    from ccproxy.config.fleet_check import CheckedFleet

_COLUMNS = (
    Column(head="LABEL"),
    Column(head="PORT", align_right=True),
    Column(head="ENV FILE", drop_order=1),
    Column(head="PROVIDER"),
    Column(head="KEYS", align_right=True),
    Column(head="MODEL"),
)
ANY_MODEL = "any"


@command(
    "ccproxy check",
    "ccproxy check ~/other/ccproxy.toml",
    "ccproxy check envs/kimi.env      # a single env file",
    "ccproxy check --learned Kimi-K2  # features that the provider has refused",
)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "--learned",
    metavar="LABEL",
    help="Show the request features that LABEL's provider has refused.",
)
@click.option(
    "--forget",
    metavar="LABEL",
    help="Delete LABEL's list of refused features, so that each is tried again.",
)
def check(options: Options, file: Path | None, learned: str | None, forget: str | None) -> None:
    """
    Check ccproxy.toml and the env files that it names, or only FILE. Starts nothing.

    All errors are reported at once, each with its location and a fix. Exits with 78 if there
    are any.
    """
    from ccproxy.cli.session.claude_environment import window_note
    from ccproxy.config.fleet_check import load_all
    from ccproxy.config.worker_config import load_worker

    if label := learned or forget:
        fleet = load_fleet(find_config(options.config))
        entry = choose_one(fleet, label)
        if learned:
            show_learned(fleet.home, entry.label)
        else:
            forget_learned(fleet, entry.label)
        return
    if file is not None and file.suffix != ".toml" and not file.is_dir():
        config = load_worker(file)
        model = printable(config.models.big or ANY_MODEL)
        show(f"{short_path(file)} is valid: {config.provider_name}, {model}")
        if note := window_note(config):
            show(f"note: {printable(note)}")
        return
    checked = load_all(find_config(options.config if file is None else str(file)))
    providers = counted(len(checked.workers), "provider")
    show(f"{short_path(checked.fleet.file)} is valid: {providers}")
    for line in table(_COLUMNS, _rows(checked), width=columns(), indent="  "):
        show(line)
    for note in _notes(checked):
        show(f"  note: {note}")


def _rows(checked: CheckedFleet) -> list[tuple[str, ...]]:
    workers = [(entry, checked.workers[entry.label]) for entry in checked.fleet.entries]
    return [
        (
            entry.label,
            str(entry.port),
            short_path(entry.env_file),
            printable(worker.provider_name),
            str(len(worker.api_keys)),
            printable(worker.models.big or ANY_MODEL),
        )
        for entry, worker in workers
    ]


def _notes(checked: CheckedFleet) -> list[str]:
    from ccproxy.cli.fleet_models import fleet_models
    from ccproxy.cli.session.claude_environment import window_note

    models = fleet_models(checked.fleet)
    return [
        f"{label}: {printable(note)}"
        for label, worker in checked.workers.items()
        if (note := window_note(worker, fleet_models=models))
    ]
