"""
A proxy to be added: its fields, their parsers, and the files that define it.

Each parser takes the user's input, from an option or a prompt, and may raise a UsageError. The
first line of the error makes sense without the fix.
"""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ccproxy.cli.render.terminal import short_path
from ccproxy.cli.setup.config_edit import (
    append,
    check_new,
    entry_text,
    exclusive,
    free_ports,
    write_new,
)
from ccproxy.config import settings
from ccproxy.config.env_text import env_line
from ccproxy.config.fleet import LABEL, LABEL_RULE, RESERVED, Entry, Fleet, local_table, read_fleet
from ccproxy.config.parsers import contains_key, hide_keys
from ccproxy.config.settings import Setting
from ccproxy.config.worker_config import WorkerConfig, load_worker
from ccproxy.errors import ConfigError, PortInUse, UsageError
from ccproxy.providers.presets import Endpoint, Preset, generic_preset, load_presets
from ccproxy.text import did_you_mean

CUSTOM = "custom"
"""The choice for any OpenAI-compatible server without a provider preset."""
KEY_BYTES = 32
"""A client key has 256 random bits."""

_TABLE_HEAD = "# PORT:ENVFILE:LABEL — one line per provider; paths are relative to this file.\n"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProxy:
    """A proxy that is not in the table yet. Its `repr` contains no secrets."""

    preset: str
    base_url: str
    """Empty for the provider preset's address."""
    endpoint: str
    """Name of the account's region or plan; empty for the provider preset's first one."""
    model: str
    """Used for every tier; empty for the provider preset's models."""
    label: str
    port: int
    keys: tuple[str, ...] = field(repr=False)
    client_key: str = field(repr=False)
    context_window: int | None = None
    """In tokens; None for the provider preset's value, or if it is unknown."""
    api: str = ""
    """The API used upstream; empty for the provider preset's API."""

    @property
    def env_name(self) -> str:
        """The path of its env file, relative to the table's folder."""
        return env_name(self.label)

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings of its env file; those without a value are left out."""
        values = {
            settings.PROVIDER.name: "" if self.preset == CUSTOM else self.preset,
            endpoint_setting(self.endpoint): self.endpoint,
            settings.PROVIDER_BASE_URL.name: self.base_url,
            settings.PROVIDER_API.name: self.api,
            settings.PROVIDER_API_KEY.name: ",".join(self.keys),
            settings.BIG_MODEL.name: self.model,
            settings.MIDDLE_MODEL.name: self.model,
            settings.SMALL_MODEL.name: self.model,
            settings.CONTEXT_WINDOW.name: str(self.context_window or ""),
            settings.ANTHROPIC_API_KEY.name: self.client_key,
        }
        return {name: value for name, value in values.items() if value}

    @property
    def env_text(self) -> str:
        """The content of its env file."""
        title = preset_of(self.preset).title
        head = f"# {title}, added by ccproxy init. Separate several keys with commas.\n"
        lines = [env_line(name, value) for name, value in self.settings.items()]
        note = "# Claude Code must send this key to the proxy; ccproxy run and ccproxy env set it."
        return head + "\n".join([*lines[:-1], note, lines[-1]]) + "\n"

    def config(self, fleet: Fleet) -> WorkerConfig:
        """
        Return the configuration of its worker.

        Raises:
            ConfigError: If the combination of fields is not valid; the error lists every mistake.

        """
        entry = Entry(port=self.port, env_file=fleet.home / self.env_name, label=self.label)
        ports = {other.port: other.label for other in fleet.entries}
        try:
            return load_worker(None, entry=entry, environ=self.settings, ports=ports)
        except ConfigError as error:
            file = Path(short_path(entry.env_file))
            mistakes = [replace(mistake, file=file) for mistake in error.mistakes]
            raise ConfigError(mistakes) from error

    def write(self, fleet: Fleet) -> str:
        """
        Write the env file and the entry, both or neither; return the entry.

        Raises:
            CcproxyError: If the entry cannot be appended to the table.
            OSError: If a file cannot be written.

        """
        env_file = fleet.home / self.env_name
        table = table_to_extend(fleet)
        with exclusive(fleet.home):
            write_new(env_file, self.env_text)
            try:
                if table.exists():
                    entry = entry_text(self.port, self.env_name, self.label)
                    append(fleet, table, entry)
                else:
                    entry = f'proxies = [\n  "{self.port}:{self.env_name}:{self.label}",\n]\n'
                    write_new(table, _TABLE_HEAD + entry)
            except BaseException:
                env_file.unlink()
                raise
        return entry


def open_or_create(table: Path) -> Fleet:
    """
    Read the *table* that the new entry will be added to; it may be missing or empty.

    Raises:
        ConfigError: If the table has other mistakes; the error lists all of them.

    """
    if not table.exists():
        return Fleet(home=table.parent, file=table, entries=())
    fleet, mistakes = read_fleet(table)
    if not all(mistake.is_empty_table for mistake in mistakes):
        raise ConfigError(mistakes)
    return fleet


def table_to_extend(fleet: Fleet) -> Path:
    """
    Return the file for a new entry: the table, or the local table in a clone of ccproxy.

    Git tracks the table of a clone; the user's entries in it could cause conflicts in `git pull`.
    """
    local = local_table(fleet.file)
    is_shipped = (fleet.home / ".git").exists() and (fleet.home / "ccproxy/__init__.py").exists()
    return local if is_shipped or local.exists() else fleet.file


def new_client_key() -> str:
    """Return a new key that Claude Code must send to the proxy."""
    return f"ccp_{secrets.token_urlsafe(KEY_BYTES)}"


def preset_of(name: str) -> Preset:
    """Return the provider preset called *name*, or the neutral preset for `custom`."""
    return generic_preset() if name == CUSTOM else load_presets()[name]


def env_name(label: str) -> str:
    """Return the path of a new entry's env file, relative to the table's folder."""
    return f"envs/{label.lower()}.env"


def endpoint_setting(name: str) -> str:
    """Return the setting for the region or plan *name*; both settings accept either."""
    setting = settings.PROVIDER_PLAN if name.endswith("plan") else settings.PROVIDER_REGION
    return setting.name


# Parsers.


def parse_preset(typed: str) -> str:
    """Parse the name of a provider preset, or its number in the menu."""
    names = [*load_presets(), CUSTOM]
    if typed.isdecimal() and 1 <= int(typed) <= len(names):
        return names[int(typed) - 1]
    if typed.lower() in names:
        return typed.lower()
    hint = did_you_mean(typed, names)
    raise UsageError(f'unknown provider "{typed}"{hint}\n  fix: use one of: {", ".join(names)}')


def parse_endpoint(typed: str, preset: Preset) -> Endpoint:
    """Parse the name of a region or plan of *preset*, or its number in the list."""
    endpoints = preset.endpoints
    if typed.isdecimal() and 1 <= int(typed) <= len(endpoints):
        return endpoints[int(typed) - 1]
    by_name = {endpoint.name: endpoint for endpoint in endpoints}
    if typed.lower() in by_name:
        return by_name[typed.lower()]
    if not by_name:
        text = f"{preset.title} has only one endpoint"
        raise UsageError(f"{text}\n  fix: omit --endpoint, or use --base-url")
    text = f'{preset.title} has no endpoint "{typed}"{did_you_mean(typed, by_name)}'
    raise UsageError(f"{text}\n  fix: use one of: {', '.join(by_name)}")


def parse_model(typed: str) -> str:
    """Parse a model's name. Reject a key or an address that was pasted at the wrong prompt."""
    fix = "use the provider's name for the model"
    if contains_key(typed):
        raise UsageError(f"the model cannot be a key, because its name is displayed\n  fix: {fix}")
    if "://" in typed:
        raise UsageError(f"the model cannot be an address\n  fix: {fix}; see also --base-url")
    return parse_setting(settings.BIG_MODEL, typed, "the model")


def parse_window(typed: str) -> int:
    """Parse a context window; `200k` is 200,000, so it never exceeds the vendor's limit."""
    match = re.fullmatch(r"([0-9]{1,4}(?:\.[0-9]{1,3})?) ?([km])", typed.strip().lower())
    if match is not None:
        typed = f"{float(match[1]) * {'k': 1e3, 'm': 1e6}[match[2]]:.0f}"
    return parse_setting(settings.CONTEXT_WINDOW, typed, "the context window")


def parse_label(typed: str, fleet: Fleet) -> str:
    """Parse a label that no entry and no env file uses."""
    if not LABEL.fullmatch(typed):
        text = f'"{typed}" is not a valid label: use {LABEL_RULE}'
        raise UsageError(f"{text}\n  fix: choose another label, for example --label kimi-2")
    if typed.lower() in RESERVED:
        raise UsageError(f'the label "{typed}" is reserved by ccproxy\n  fix: choose another label')
    entry = fleet.entry(typed)
    if entry is not None:
        text = f"the label {entry.label} already exists ({_place(entry, fleet)})"
        free = propose_label(typed, fleet)
        raise UsageError(f"{text}\n  fix: choose another, for example --label {free}")
    check_new([fleet.home / env_name(typed)])
    return typed


def propose_label(name: str, fleet: Fleet) -> str:
    """Return *name*, with a number appended if it is already used."""
    label, count = name, 1
    while fleet.entry(label) is not None or (fleet.home / env_name(label)).exists():
        count += 1
        label = f"{name[:28]}-{count}"
    return label


def parse_port(typed: str, fleet: Fleet) -> int:
    """Parse a port that neither the table nor another program uses."""
    port = parse_setting(settings.PORT, typed, "the port")
    entry = next((entry for entry in fleet.entries if entry.port == port), None)
    fix = f"choose another, for example --port {propose_port(fleet)}"
    if entry is not None:
        text = f"port {port} belongs to {entry.label} ({_place(entry, fleet)})"
        raise UsageError(f"{text}\n  fix: {fix}")
    if not _is_free(port):
        # slow to import, rarely needed
        from ccproxy.supervisor.sockets.listeners import describe_port_holder

        raise PortInUse(f"{describe_port_holder(port)}\n  fix: {fix}")
    return port


def propose_port(fleet: Fleet) -> int:
    """Return the first port from 8081 that neither the table nor a program uses."""
    return next(filter(_is_free, free_ports({entry.port for entry in fleet.entries})))


def parse_setting(setting: Setting[T, object], typed: str, source: str) -> T:
    """Parse *typed* as the value of *setting*; *source* is the subject of an error message."""
    try:
        return setting.parse(typed.strip())
    except ValueError as error:
        text = f"{source} {hide_keys(str(error))}"
        raise UsageError(f"{text}\n  fix: for example {setting.example}") from error


def _place(entry: Entry, fleet: Fleet) -> str:
    return f"{short_path(entry.table or fleet.file)}:{entry.line}"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
