"""Write the fleet as a file for Docker Compose or Helm."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import click

from ccproxy.cli.command import Command, Options
from ccproxy.cli.render.terminal import notify, show
from ccproxy.cli.selection import choose, complete_label, open_fleet
from ccproxy.config.fleet import Entry
from ccproxy.files import read_regular

FORMS = ("compose", "helm")
_SECRET = re.compile(r".*(KEY|TOKEN|SECRET|PASSWORD)|REDIS_URL|UPSTREAM_PROXY|CUSTOM_HEADER_.*")
"""Settings whose values are credentials, or may contain some."""
_LEFT_OUT = frozenset({"HOST", "PORT", "CA_BUNDLE", "USERS", "PROVIDER_API_KEYS_FILE"})
"""The container decides these, or they name files that it does not have."""
_FILES = ("CA_BUNDLE", "USERS", "PROVIDER_API_KEYS_FILE")


@click.command(
    cls=Command,
    examples=[
        "ccproxy export compose > compose.yaml",
        "ccproxy export helm kimi > values.yaml && helm install ccproxy deploy/helm/ccproxy -f "
        "values.yaml",
    ],
)
@click.argument("form", type=click.Choice(FORMS))
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@click.pass_obj
def export(options: Options, *, form: str, labels: tuple[str, ...]) -> None:
    """
    Print the entries named by LABEL, all if none is named, as a file for containers.

    No secret is printed: compose refers to the env files, and Helm's values to Kubernetes secrets,
    for which the command that creates each is shown.
    """
    fleet = open_fleet(options)
    entries = choose(fleet, labels)
    for entry in entries:
        for name in _FILES:
            if name in _settings(entry):
                notify(options, f"{entry.label}: {name} names a file; mount it, and set {name}")
    if form == "compose":
        document: Mapping[str, Any] = _compose(entries)
    else:
        document = {"entries": {_name(entry): _helm_entry(entry) for entry in entries}}
        for entry in entries:
            notify(options, _create_secret(entry))
    for line in _yaml(document):
        show(line)


def _compose(entries: tuple[Entry, ...]) -> Mapping[str, Any]:
    services = {
        _name(entry): {
            "image": "ccproxy-fleet",
            "restart": "unless-stopped",
            "init": True,
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "stop_grace_period": "40s",
            "tmpfs": ["/tmp:mode=1777,size=16m"],  # noqa: S108 - in the container
            "ports": [f"127.0.0.1:{entry.port}:8080"],
            "volumes": [f"{_name(entry)}:/var/lib/ccproxy"],
            "env_file": [str(entry.env_file)],
            "environment": {"HOST": "0.0.0.0", "CCPROXY_PORT": "8080"},  # noqa: S104 - as above
        }
        for entry in entries
    }
    return {"services": services, "volumes": {name: {} for name in services}}


def _helm_entry(entry: Entry) -> Mapping[str, Any]:
    plain = {
        name: value
        for name, value in _settings(entry).items()
        if not _SECRET.fullmatch(name) and name not in _LEFT_OUT
    }
    return {"existingSecret": f"ccproxy-{_name(entry)}", "env": plain}


def _create_secret(entry: Entry) -> str:
    """Return the command that creates the secret of *entry*, without its values."""
    names = [name for name in _settings(entry) if _SECRET.fullmatch(name)]
    if "ANTHROPIC_API_KEY" not in names:
        names.append("ANTHROPIC_API_KEY")
    literals = " ".join(f"--from-literal={name}=…" for name in names)
    return f"kubectl create secret generic ccproxy-{_name(entry)} {literals}"


def _settings(entry: Entry) -> dict[str, str]:
    """Return the settings of an env file that have a value."""
    import io

    from dotenv import dotenv_values

    from ccproxy.config.settings import is_setting

    text = read_regular(entry.env_file, encoding="utf-8-sig")
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    return {name: value for name, value in values.items() if value and is_setting(name)}


def _name(entry: Entry) -> str:
    """Return the label as a name that Kubernetes accepts."""
    return re.sub(r"[^a-z0-9]+", "-", entry.label.lower()).strip("-")


def _yaml(value: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Yield the lines of *value*; scalars and lists are JSON, which YAML contains."""
    for name, one in value.items():
        if isinstance(one, dict) and one:
            yield f"{indent}{name}:"
            yield from _yaml(one, indent + "  ")
        else:
            yield f"{indent}{name}: {json.dumps(one, ensure_ascii=False)}"
