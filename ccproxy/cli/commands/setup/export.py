"""Export the fleet as a file for containers or Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.containers.compose_file import compose_file
from ccproxy.cli.containers.container_entry import ContainerEntry, container_entry
from ccproxy.cli.containers.kubernetes_objects import helm_values, kubernetes_objects
from ccproxy.cli.containers.yaml_text import yaml_lines
from ccproxy.cli.render.terminal import notify, short_path, show
from ccproxy.cli.selection import choose, complete_label, open_fleet
from ccproxy.cli.single_proxy import require_table
from ccproxy.errors import UsageError

FORMS = ("compose", "kubernetes", "helm")


@command(
    "ccproxy export compose > compose.yaml",
    "ccproxy export kubernetes kimi > ccproxy.yaml && kubectl apply -f ccproxy.yaml",
    "ccproxy export helm kimi > values.yaml && helm install ccproxy deploy/helm/ccproxy -f "
    "values.yaml",
)
@click.argument("form", type=click.Choice(FORMS))
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
def export(options: Options, *, form: str, labels: tuple[str, ...]) -> None:
    """
    Print the entries named by LABEL, or all entries, as a file for containers.

    No secrets are printed: the Compose file refers to the env files, the other formats refer to
    Kubernetes Secrets. The commands that create the Secrets are shown.
    """
    fleet = open_fleet(options)
    require_table(fleet)
    entries = [container_entry(entry) for entry in choose(fleet, labels)]
    _check_names(entries)
    for entry in entries:
        for name in entry.files:
            notify(options, f"{entry.label}: {name} names a file; mount it, and set {name}")
        if form != "compose":
            notify(options, entry.create_secret)
        elif entry.lacks_client_key:
            text = f"{entry.label}: containers require a client key; add ANTHROPIC_API_KEY to"
            notify(options, f"{text} {short_path(entry.env_file)} (openssl rand -hex 32)")
    for line in _lines(form, entries):
        show(line)


def _lines(form: str, entries: Sequence[ContainerEntry]) -> Iterator[str]:
    match form:
        case "compose":
            return yaml_lines(compose_file(entries))
        case "helm":
            return yaml_lines(helm_values(entries))
        case _:
            objects = kubernetes_objects(entries)
            return chain.from_iterable(("---", *yaml_lines(one)) for one in objects)


def _check_names(entries: Sequence[ContainerEntry]) -> None:
    """Raise UsageError if two entries have the same name."""
    labels: dict[str, str] = {}
    for entry in entries:
        if (other := labels.setdefault(entry.name, entry.label)) != entry.label:
            text = f'"{other}" and "{entry.label}" would both be containers named "{entry.name}"'
            raise UsageError(
                f"{text}\n  fix: change one of the labels, or export only one of the entries"
            )
