"""The reference pages, from the declarations of settings, commands, exit codes and endpoints."""

from __future__ import annotations

import inspect
import re
from importlib import import_module

import click

from ccproxy.cli.command import ALIASES, Command, commands, common_options, group_title
from ccproxy.cli.exit_codes import MEANINGS
from ccproxy.cli.main import GROUPS, cli
from ccproxy.config.settings import SETTINGS
from ccproxy.providers.measurement import UNMEASURED
from ccproxy.worker.metrics.declarations import METRICS
from ccproxy.worker.server.app import ROUTES
from ccproxy.worker.server.route import Route
from tests.documentation.markdown import code, page, table
from tests.documentation.provider_pages import quirk_meanings

_SETTINGS = """\
These are the settings of an env file. With an env file only that file is read, never the shell's
own `OPENAI_…` or `ANTHROPIC_…` variables. A name that resembles a setting is reported as an error,
with a suggestion. Without a file (`ccproxy up --port`) the same names are environment variables."""
_COMMANDS = """\
`ccproxy COMMAND --help` prints the same text. A unique prefix of a label is enough. These options
are accepted by every command:"""
_QUIRKS = """\
These are the differences between providers that ccproxy knows. `ccproxy probe LABEL` measures them
with small requests. Many servers ignore what they do not know. So a quirk without a visible effect
is measured only where an unknown field is refused; otherwise the catalogue's value stays."""
_METRICS = """\
`METRICS=9464` serves `GET /metrics` for Prometheus on 127.0.0.1; `METRICS=0.0.0.0:9464` in a pod,
or `METRICS=unix:PATH`. It is never on the clients' port. All series have the label `entry`. Models
that are not configured are counted as `other`, and keys by their state. So the number of series is
bounded, and no key, user, session or text of a client is in them. Histograms are in seconds."""
_ENDPOINTS = """\
These are the paths that each proxy serves on its port. The paths of the APIs also work without
`/v1`, and with `/v1` twice, because clients append their paths to base URLs of both forms.
`GET /v1/models/ID` describes one model.

*Key* means that the client key is required if `ANTHROPIC_API_KEY` is set. *Loopback* means that the
path exists only if the proxy listens on loopback and `ADMIN_API` is not off. *Loopback, key set*
means that a client key must also be configured. *Open* paths need no key and show nothing
secret."""


def settings() -> str:
    """Return the page about an env file's settings."""
    rows = []
    for setting in SETTINGS:
        aliases = "".join(f" (also `{alias}`)" for alias in setting.aliases)
        default = setting.default_text or "–"
        rows.append((f"`{setting.name}`{aliases}", default, setting.meaning))
    examples = [(f"`{setting.name}`", f"`{setting.example}`") for setting in SETTINGS]
    return page(
        "Settings",
        _SETTINGS,
        table(("setting", "default", "meaning"), rows),
        "## Examples",
        table(("setting", "example"), examples),
    )


def quirks() -> str:
    """Return the page about the quirks, which marks those that `ccproxy probe` measures."""
    rows = []
    for name, meaning in quirk_meanings().items():
        reason = UNMEASURED.get(name)
        rows.append((f"`{name}`", meaning, f"no: {reason}" if reason else "yes"))
    return page("Quirks", _QUIRKS, table(("quirk", "meaning", "measured"), rows))


def exit_codes() -> str:
    """Return the page about the exit codes."""
    rows = [(str(number), meaning) for number, meaning in MEANINGS.items()]
    intro = "Every command uses these codes; `ccproxy help exit-codes` prints them."
    return page("Exit codes", intro, table(("code", "meaning"), rows))


def command_reference() -> str:
    """Return the page about all commands, by group, with options and examples."""
    top = click.Context(cli, info_name="ccproxy")
    common = [option.get_help_record(top) for option in common_options(hidden=False)]
    parts = [_COMMANDS, _options(common)]
    every = commands()
    for group in GROUPS:
        parts.append(f"## {group_title(group)}")
        for name, file in every.items():
            if file.group == group:
                parts.append(_command(name, file.load(), top))
    return page("Commands", *parts)


def _command(name: str, command: click.Command, top: click.Context) -> str:
    context = click.Context(command, info_name=name, parent=top)
    usage = " ".join(command.collect_usage_pieces(context))
    also = [alias for alias, target in ALIASES.items() if target == name]
    help_text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    parts = [
        f"### ccproxy {name}",
        code(f"ccproxy {name} {usage}", "text"),
        _prose(help_text),
        f"Also: {', '.join(f'`ccproxy {alias}`' for alias in also)}." if also else "",
    ]
    hidden = {name for option in common_options(hidden=True) for name in option.opts}
    records = [
        param.get_help_record(context)
        for param in command.params
        if isinstance(param, click.Option) and not hidden & set(param.opts)
    ]
    if any(records):
        parts.append(_options(records))
    if isinstance(command, Command):
        parts += ["Examples:", code("\n".join(command.examples), "text")]
    return "\n\n".join(filter(None, parts))


def _prose(text: str) -> str:
    """Return a help text as Markdown, with special characters escaped."""
    return re.sub(r"([*<_])", r"\\\1", text.replace("  [", " ["))


def _options(records: list[tuple[str, str] | None]) -> str:
    rows = [(f"`{names}`", _prose(text)) for names, text in filter(None, records)]
    return table(("option", "meaning"), rows)


def endpoints() -> str:
    """Return the page about the proxy's HTTP endpoints."""
    rows = [
        (f"`{path}`", route.allow, _access(route), _purpose(path, route))
        for path, route in ROUTES.items()
    ]
    return page("Endpoints", _ENDPOINTS, table(("path", "methods", "access", "purpose"), rows))


def metrics() -> str:
    """Return the page about the Prometheus metrics."""
    rows = [
        (f"`{one.name}`", one.kind, ", ".join(f"`{label}`" for label in one.labels), one.meaning)
        for one in METRICS
    ]
    return page("Metrics", _METRICS, table(("metric", "kind", "labels", "meaning"), rows))


def _access(route: Route) -> str:
    if route.is_open:
        return "open"
    if route.is_admin:
        return "loopback, key" if route.is_harmless else "loopback, key set"
    return "key"


def _purpose(path: str, route: Route) -> str:
    """Return the purpose from the docstring of the module or of the function."""
    endpoint = route.post or route.get or route.delete
    assert endpoint is not None, path
    module = import_module(endpoint.__module__)
    if path.count("/") == 1 and path in ("/", "/health", "/livez", "/readyz", "/models"):
        return _first_sentence(endpoint.__doc__)
    siblings = [r for r in ROUTES.values() if (r.post or r.get) and _module(r) == module.__name__]
    if len(siblings) > 1 and module.__name__.rpartition(".")[2] in ("conversation", "proxy"):
        return _first_sentence(endpoint.__doc__)
    text = re.sub(r"\s+", " ", (module.__doc__ or "").strip())
    return _first_sentence(text.split(": ", 1)[-1])


def _module(route: Route) -> str:
    endpoint = route.post or route.get or route.delete
    return endpoint.__module__ if endpoint else ""


def _first_sentence(text: str | None) -> str:
    words = re.sub(r"\s+", " ", (text or "").strip())
    sentence = re.split(r"(?<=\.)\s", words)[0].rstrip(".")
    keeps_capital = sentence[:2].isupper() or sentence.startswith("Claude")
    return sentence if keeps_capital else sentence[:1].lower() + sentence[1:]
