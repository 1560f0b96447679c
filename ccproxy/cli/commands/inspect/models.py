"""Show models, limits and prices; update the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.confirmation import confirm
from ccproxy.cli.render.terminal import columns, short_path, show, show_json, tilde
from ccproxy.cli.selection import choose_one, complete_label, open_fleet
from ccproxy.cli.single_proxy import require_table
from ccproxy.errors import UsageError
from ccproxy.text import counted, printable

if TYPE_CHECKING:
    from ccproxy.cli.render.model_lines import ModelRow

MAX_DIFFERENCES = 40
"""The maximum number of changes in an update that are shown without -v."""


@command(
    "ccproxy models                    # of every proxy",
    "ccproxy models kimi --online      # compared with the provider's own list",
    "ccproxy models kimi --json | jq '.proxies[0].models[].id'",
    "ccproxy models --update catalogue.json",
)
@click.argument("label", required=False, shell_complete=complete_label)
@click.option("--online", is_flag=True, help="Compare with the provider's own list.")
@click.option("--update", "file", metavar="FILE", help="Install a newer catalogue.")
@click.option("--reset", "resets", is_flag=True, help="Remove the installed catalogue.")
@click.option("--yes", is_flag=True, help="With --update: do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (schema 1).")
def models(
    options: Options,
    label: str | None,
    file: str | None,
    *,
    online: bool,
    resets: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """
    Show what is known about the models of LABEL, or of every proxy.

    The window, output limit, input, effort levels, dialect, price and retirement come from the
    catalogue of this release, or from a newer one installed for this user with --update. --online
    fetches the provider's own list through the running proxy and shows how it differs from the
    catalogue. Retired models are shown only with -v.
    """
    if file is not None or resets:
        if label or online or as_json or (file is not None and resets):
            text = "--update FILE and --reset cannot be combined with other arguments"
            raise UsageError(f"{text}\n  fix: ccproxy models --update FILE")
        _update(Path(file), options, yes=yes) if file is not None else _reset()
        return
    _show(options, label, online=online, as_json=as_json)


def _show(options: Options, label: str | None, *, online: bool, as_json: bool) -> None:
    from ccproxy.cli.render.model_lines import difference, model_rows
    from ccproxy.config.catalogue.catalogue_file import active_catalogue
    from ccproxy.config.fleet_check import check_fleet
    from ccproxy.errors import ConfigError
    from ccproxy.supervisor.control.worker_requests import offered_models

    fleet = open_fleet(options)
    require_table(fleet)
    checked = check_fleet(fleet.file)
    labels = [choose_one(fleet, label).label] if label else [one.label for one in fleet.entries]
    if label and labels[0] not in checked.workers:
        raise ConfigError(checked.mistakes)
    reports, blocks = [], []
    for name in labels:
        if (config := checked.workers.get(name)) is None:
            continue
        provider_models = offered_models(fleet, name) if online else None
        rows = model_rows(config, provider_models)
        extra = difference(rows) if online else {}
        proxy = {"label": name, "provider": config.provider, **extra}
        reports.append({**proxy, "models": [row.as_json() for row in rows]})
        title = f"{name}  {printable(config.provider_name)}"
        lines = _lines(rows, extra, verbose=options.verbose)
        if not (config.provider or online):
            lines.append(f"  the models of this server: ccproxy models {name} --online")
        blocks.append("\n".join([title, *lines]))
    catalogue = active_catalogue()
    if as_json:
        show_json({"schema": 1, "catalogue": catalogue.date, "proxies": reports})
    else:
        show("\n\n".join([*blocks, f"Catalogue of {catalogue.date}"]))


def _lines(rows: list[ModelRow], extra: Mapping[str, list[str]], *, verbose: bool) -> list[str]:
    from ccproxy.cli.render.model_lines import model_table

    visible = [row for row in rows if verbose or row.tiers or not row.is_retired]
    lines = model_table(visible, width=columns())
    if hidden := len(rows) - len(visible):
        lines.append(f"  {counted(hidden, 'retired model')} not shown (-v)")
    for key, text in (
        ("only_offered", "offered, not in the catalogue"),
        ("only_known", "in the catalogue, not offered"),
    ):
        if names := extra.get(key):
            lines.append(f"  {text}: {', '.join(map(printable, names))}")
    return lines


def _update(file: Path, options: Options, *, yes: bool) -> None:
    from ccproxy.config.catalogue.refresh import differences, install, read_refreshed

    new = read_refreshed(file)
    lines = [*differences(new)]
    visible_lines = lines if options.verbose else lines[:MAX_DIFFERENCES]
    for line in visible_lines:
        show(printable(line))
    if len(lines) > len(visible_lines):
        show(f"… and {len(lines) - len(visible_lines)} more (-v)")
    show(f"{counted(len(lines), 'difference')} in the catalogue of {new.date}")
    confirm("Install it?", yes=yes, fix=f"ccproxy models --update {short_path(file)} --yes")
    show(f"Installed: {tilde(install(new))}\nTo use it in running proxies: ccproxy restart")


def _reset() -> None:
    from ccproxy.config.catalogue.refresh import reset

    file = reset()
    if file is None:
        show("No catalogue is installed; the one in this release is used.")
    else:
        show(f"Removed: {tilde(file)}")
        show("To use the catalogue of this release in running proxies: ccproxy restart")
