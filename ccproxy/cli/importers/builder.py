"""The result of an importer, and the checks that every imported proxy must pass."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ccproxy.cli.importers.document import failure
from ccproxy.cli.setup.config_edit import toml_value
from ccproxy.cli.setup.new_proxy import endpoint_setting, env_name, new_client_key
from ccproxy.config import parsers
from ccproxy.config import settings as s
from ccproxy.config.addresses import Address
from ccproxy.config.env_text import env_line
from ccproxy.config.fleet import LABEL, RESERVED, Entry, Fleet
from ccproxy.config.worker_config import WorkerConfig, load_worker
from ccproxy.errors import CcproxyError, ConfigError
from ccproxy.providers.presets import Endpoint, Preset, load_presets, preset_for_host
from ccproxy.text import printable

MOST_PROXIES = 64
"""The maximum number of providers in a file; no hand-written configuration has more."""
_REFERENCE = re.compile(r"\$(?:\{(?:env:)?(\w+)\}|(\w+))|os\.environ/(\w+)|\{env:(\w+)\}")
_LONGEST_NOTE = 2000
"""Maximum number of characters searched for keys; YAML aliases may repeat a very long string."""
_STAND_IN_KEY = "sk-" + "0" * 32
"""Used to check a proxy if its key is not in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A part of the file that could not be imported."""

    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedProxy:
    """One provider as an entry of the table and the settings of its env file."""

    name: str
    """Its name in the source."""
    label: str
    settings: Mapping[str, str] = field(repr=False)
    lacks_key: bool = False
    """True if the provider needs a key and the source has no usable key."""
    key_name: str = ""
    """The environment variable that should contain the key; empty if the source names none."""
    fallbacks: tuple[str, ...] = ()

    def env_text(self, tool: str) -> str:
        """Return the text of its env file; a missing key is a commented line."""
        lines = [f"# Imported from {tool}: {self.label}"]
        if self.lacks_key:
            source = f" from ${self.key_name}" if self.key_name else ""
            lines.append(f"# The provider's key{source}:\n# {s.PROVIDER_API_KEY.name}=")
        lines += [env_line(name, value) for name, value in self.settings.items()]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The content of another tool's file."""

    tool: str
    proxies: tuple[ImportedProxy, ...]
    routes: str
    """Tables of routing rules in TOML; empty if there are none."""
    left_out: tuple[LeftOut, ...]


class ImportBuilder:
    """Checks and collects the proxies of one file, and records the parts that are left out."""

    def __init__(self, file: Path, fleet: Fleet, environ: Mapping[str, str]) -> None:
        self.file = file
        self.tool = ""
        self.environ = dict(environ)
        """Variables that the file may refer to."""
        self._fleet = fleet
        self._labels = {entry.label.lower() for entry in fleet.entries}
        # The env file of a new entry has the entry's name.
        self._labels |= {entry.env_file.stem.lower() for entry in fleet.entries}
        self._added = 0
        self._proxies: list[ImportedProxy] = []
        self._fallbacks: dict[str, tuple[str, ...]] = {}
        self._routes: dict[str, Mapping[str, Any]] = {}
        self._left_out: dict[LeftOut, None] = {}

    def add(
        self, name: str, settings: Mapping[str, str], *, key: str = "", models: Sequence[str] = ()
    ) -> str:
        """
        Add a proxy named after *name*; return its label, or "" if it is not valid.

        *key* is one key or several, separated by commas, or a reference to a variable.
        *models* are names that must reach the provider unchanged.
        """
        self._added += 1  # invalid providers count too: checking them takes time
        if self._added > MOST_PROXIES:
            text = f"has more than {MOST_PROXIES} providers"
            raise failure(self.file, text, "split the file and import one part at a time")
        keys, key_name = self._resolve(key, name)
        settings = {**settings, **({s.PROVIDER_API_KEY.name: keys} if keys else {})}
        settings[s.ANTHROPIC_API_KEY.name] = self._client_key(settings)
        label = self._label(name)
        try:
            config = self._check(label, settings)
            unknown = [one for one in dict.fromkeys(models) if not config.models.knows(one)]
            if unknown:
                patterns = ",".join((*config.models.pass_patterns, *unknown))
                settings[s.PASS_MODELS.name] = patterns
                self._check(label, settings)
        except ConfigError as error:
            self.leave_out(name, "; ".join(mistake.text for mistake in error.mistakes))
            return ""
        self._labels.add(label.lower())
        ordered = {one.name: settings.pop(one.name) for one in s.SETTINGS if one.name in settings}
        self._proxies.append(
            ImportedProxy(
                name=name,
                label=label,
                settings={**ordered, **settings},
                lacks_key=not keys and self._needs_key(label, ordered),
                key_name=key_name,
            )
        )
        return label

    def route(self, label: str, rules: Mapping[str, Any]) -> None:
        """Add routing rules for the proxy *label*."""
        if label and rules:
            self._routes[label] = rules

    def fall_back(self, label: str, others: Iterable[str]) -> None:
        """Make the proxies *others* the fallbacks of *label*."""
        names = tuple(dict.fromkeys(one for one in others if one and one != label))
        if label and names:
            self._fallbacks[label] = names

    def leave_out(self, what: str, reason: str) -> None:
        """Record that *what* could not be imported."""
        self._left_out.setdefault(LeftOut(what=_short(what, 80), reason=_short(reason, 300)))

    def leave_out_rest(
        self,
        table: Mapping[str, Any],
        known_names: Iterable[str],
        reasons: Mapping[str, str],
        *,
        path: str = "",
    ) -> None:
        """
        Record every unknown key of *table* as left out, with its reason in *reasons* if it has one.

        *path* is the prefix of the recorded names. Keys that begin with `//` are comments.
        """
        expected_names = set(known_names)
        for name in map(str, table):
            if name not in expected_names and not name.startswith("//"):
                self.leave_out(path + name, reasons.get(name, "ccproxy has no such setting"))

    def result(self) -> Imported:
        """Return the collected proxies and routes, and the parts that were left out."""
        proxies = tuple(
            replace(one, fallbacks=self._fallbacks.get(one.label, ())) for one in self._proxies
        )
        routes = "\n".join(_route_table(label, rules) for label, rules in self._routes.items())
        return Imported(
            tool=self.tool, proxies=proxies, routes=routes, left_out=tuple(self._left_out)
        )

    def _resolve(self, key: str, name: str) -> tuple[str, str]:
        """Return the keys and "", or, if none is usable, "" and the variable in *key*."""
        text, variable = self._expand(key)
        if not text:
            return "", variable
        try:
            return ",".join(parsers.keys(text)), ""
        except ValueError as error:
            self.leave_out(f"the key of {name}", str(error))
            return "", variable

    def _expand(self, text: str) -> tuple[str, str]:
        """Return *text*, or the value of the variable that it refers to and the variable's name."""
        text = text.strip()
        match = _REFERENCE.fullmatch(text)
        if match is None:
            return text, ""
        variable = next(filter(None, match.groups()))
        return self.environ.get(variable, ""), variable

    def _client_key(self, settings: Mapping[str, str]) -> str:
        """Return the client key in *settings*, or a new one if it is missing or a placeholder."""
        key, variable = self._expand(settings.get(s.ANTHROPIC_API_KEY.name, ""))
        if variable and not key:
            self.leave_out("the client key", f"${variable} is not set; each entry gets a new key")
        try:
            if key and parsers.keys(key):
                return key
        except ValueError as error:
            self.leave_out("the client key", f"{error}; each entry gets a new key")
        return new_client_key()

    def _check(self, label: str, settings: Mapping[str, str]) -> WorkerConfig:
        """Return the configuration of a proxy. Raise ConfigError if it is not valid."""
        entry = Entry(port=1, env_file=self._fleet.home / env_name(label), label=label)
        environ = {s.PROVIDER_API_KEY.name: _STAND_IN_KEY, **settings}
        return load_worker(None, entry=entry, environ=environ)

    def _needs_key(self, label: str, settings: Mapping[str, str]) -> bool:
        try:
            self._check(label, {**settings, s.PROVIDER_API_KEY.name: ""})
        except ConfigError:
            return True
        return False

    def _label(self, name: str) -> str:
        """Derive an unused label from *name*."""
        plain = parsers.hide_keys(name[:_LONGEST_NOTE])
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("._-")[:29].strip("._-") or "model"
        label, count = stem, 1
        while label.lower() in self._labels | RESERVED or LABEL.fullmatch(label) is None:
            count += 1
            label = f"{stem}-{count}"
        return label


def provider_settings(address: str, *, api: str = "", own_api: bool = False) -> dict[str, str]:
    """
    Return the settings for a provider at *address*: its preset, if any, with the region or plan.

    *api* is the dialect if the source names one. With *own_api*, *address* belongs to another API
    of the provider, so the preset's address is used instead.

    Raises:
        ValueError: If *address* is not valid for a provider.

    """
    url = parsers.http_url(address)
    base = Address.parse(url).base.removesuffix("/v1/messages")
    name = preset_for_host(urlsplit(base).hostname or "")
    settings = {s.PROVIDER_API.name: api} if api else {}
    if not name:
        return {s.PROVIDER_BASE_URL.name: base, **settings}
    preset = load_presets()[name]
    if own_api and preset.base_url:
        return {s.PROVIDER.name: name, **settings}
    for position, endpoint in enumerate(preset.endpoints or (Endpoint(name=""),)):
        dialect_name = _dialect_at(preset.at(endpoint), base, api)
        if dialect_name is not None:
            region = {endpoint_setting(endpoint.name): endpoint.name} if position else {}
            dialect = {s.PROVIDER_API.name: dialect_name} if dialect_name else settings
            return {s.PROVIDER.name: name, **region, **dialect}
    text = url if urlsplit(url).query else base
    return {s.PROVIDER.name: name, s.PROVIDER_BASE_URL.name: text, **settings}


def timeout_setting(milliseconds: str) -> dict[str, str]:
    """
    Return the setting for the value of API_TIMEOUT_MS; empty if the value is empty.

    Raises:
        ValueError: If it is not a number.

    """
    if not milliseconds:
        return {}
    try:
        return {s.REQUEST_TIMEOUT.name: f"{float(milliseconds) / 1000:g}"}
    except ValueError:
        raise ValueError("API_TIMEOUT_MS is not a number") from None


def header_settings(headers: object) -> dict[str, str]:
    """
    Return the settings that send *headers*, a mapping.

    Raises:
        ValueError: If *headers* is not a mapping, or a name or value is not valid in HTTP.

    """
    if not isinstance(headers, dict):
        raise ValueError("extra_headers must be a mapping")
    settings = {}
    for name, value in headers.items():
        if not re.fullmatch(r"[A-Za-z0-9_-]+", str(name)):
            raise ValueError(f'extra_headers: "{name}" is not a valid header name')
        suffix = str(name).upper().replace("-", "_")
        settings[f"{s.HEADER_PREFIX}{suffix}"] = parsers.text(str(value))
    return settings


def _dialect_at(preset: Preset, base: str, api: str) -> str | None:
    """Return the dialect to set ("" for the default), or None if *preset* is not at *base*."""
    plain = base.removesuffix("/v1")
    is_native = bool(preset.native_url) and plain == preset.native_url.removesuffix("/v1")
    if is_native and api in ("", "messages"):
        return "" if preset.api == "messages" else "messages"
    if api != "messages" and preset.base_url and plain == preset.base_url.removesuffix("/v1"):
        return api
    return None


@cache
def names(table: str) -> Mapping[str, Any]:
    """Return a table of `names.toml`."""
    with Path(__file__).with_name("names.toml").open("rb") as file:
        tables = tomllib.load(file)
    if table not in tables:
        raise CcproxyError(f"names.toml has no table {table}")
    values: Mapping[str, Any] = tables[table]
    return values


def text_of(table: Mapping[str, Any], *keys: str) -> str:
    """Return the first string or number under *keys* as a string, or "" if there is none."""
    for key in keys:
        value = table.get(key)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value).strip()
    return ""


def table_of(table: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Return the first mapping under *keys*, or an empty mapping."""
    return next((one for key in keys if isinstance(one := table.get(key), dict)), {})


def texts_of(value: object) -> tuple[str, ...]:
    """Return the strings in *value*, which is a list or a single string."""
    items = value if isinstance(value, list) else [value]
    return tuple(item.strip() for item in items if isinstance(item, str) and item.strip())


def same_models(model: str) -> dict[str, str]:
    """Return the settings that use *model* for every tier."""
    return {s.BIG_MODEL.name: model, s.SMALL_MODEL.name: model} if model else {}


def _route_table(label: str, rules: Mapping[str, Any]) -> str:
    lines = [f"[routes.{toml_value(label)}]"]
    for name, rule in rules.items():
        if isinstance(rule, str):
            lines.append(f"{name} = {toml_value(rule)}")
        else:
            pairs = ", ".join(f"{key} = {toml_value(value)}" for key, value in rule.items())
            lines.append(f"{name} = {{ {pairs} }}")
    return "\n".join(lines) + "\n"


def _short(text: str, most: int) -> str:
    """Return *text* for a terminal, without keys and cut to *most* characters."""
    plain = parsers.hide_keys(printable(text[:_LONGEST_NOTE]))
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"
