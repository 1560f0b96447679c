"""
A proxy that is to be added: what may be said of it, and the files that it becomes.

Each reader takes what was typed, after an option or at a prompt, and raises a UsageError for what
cannot be; the first line of its text says what is wrong.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from ccproxy.cli.render.terminal import near
from ccproxy.cli.setup.user_files import (
    alone,
    append,
    check_new,
    entry_text,
    env_line,
    ports_besides,
    write_new,
)
from ccproxy.config import settings
from ccproxy.config.fleet import LABEL, LABEL_RULE, NO_PROXY, RESERVED, Entry, Fleet, read_fleet
from ccproxy.config.parsers import holds_key, without_keys
from ccproxy.config.settings import Setting
from ccproxy.config.worker import WorkerConfig, load_worker
from ccproxy.errors import ConfigError, PortInUse, UsageError
from ccproxy.files import read_regular
from ccproxy.providers.presets import Preset, generic_preset, load_presets

CUSTOM = "custom"
"""Stands for no preset: any OpenAI-compatible server."""

_HEAD = "# PORT:ENVFILE:LABEL — one line per provider; paths are relative to this file.\n"
_EXAMPLE_PORT = re.compile(r"""^\s*#\s*(?:["']|port\s*=\s*)([0-9]{1,5})\b""", re.MULTILINE)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProxy:
    """A proxy that nobody has written down yet. Secrets do not show in its `repr`."""

    preset: str
    base_url: str
    """Empty: the preset's."""
    model: str
    """Answers in every tier; empty: the preset's models do."""
    label: str
    port: int
    keys: tuple[str, ...] = field(repr=False)
    client_key: str = field(repr=False)
    context_window: int | None = None
    """Tokens; None: as the preset says, or unknown."""

    @property
    def env_name(self) -> str:
        """The env file, from the table's folder."""
        return env_name(self.label)

    @property
    def settings(self) -> Mapping[str, str]:
        """What its env file says; a setting without a value is left out."""
        said = {
            settings.PROVIDER.name: "" if self.preset == CUSTOM else self.preset,
            settings.PROVIDER_BASE_URL.name: self.base_url,
            settings.PROVIDER_API_KEY.name: ",".join(self.keys),
            settings.BIG_MODEL.name: self.model,
            settings.MIDDLE_MODEL.name: self.model,
            settings.SMALL_MODEL.name: self.model,
            settings.CONTEXT_WINDOW.name: str(self.context_window or ""),
            settings.ANTHROPIC_API_KEY.name: self.client_key,
        }
        return {name: value for name, value in said.items() if value}

    @property
    def env_text(self) -> str:
        """The env file's content."""
        head = (
            f"# {preset_of(self.preset).title}, added by ccproxy init; keys are split by commas\n"
        )
        lines = [env_line(name, value) for name, value in self.settings.items()]
        note = "# What Claude Code must send here; ccproxy run and ccproxy env see to it."
        return head + "\n".join([*lines[:-1], note, lines[-1]]) + "\n"

    def config(self, fleet: Fleet) -> WorkerConfig:
        """
        Return what a worker will make of it.

        Raises:
            ConfigError: With what is wrong with it as a whole.

        """
        entry = Entry(port=self.port, env_file=fleet.home / self.env_name, label=self.label)
        ports = {one.port: one.label for one in fleet.entries}
        try:
            return load_worker(None, entry=entry, environ=self.settings, ports=ports)
        except ConfigError as error:
            file = Path(near(entry.env_file))
            raise ConfigError([replace(one, file=file) for one in error.mistakes]) from error

    def write(self, fleet: Fleet) -> str:
        """
        Write the env file and the entry, and return the entry; if that fails, neither is there.

        Raises:
            CcproxyError: If the table cannot be added to.
            OSError: If a file cannot be written.

        """
        env_file = fleet.home / self.env_name
        with alone(fleet.home):
            write_new(env_file, self.env_text)
            try:
                if fleet.file.exists():
                    entry = entry_text(self.port, self.env_name, self.label)
                    append(fleet.file, entry)
                else:
                    entry = f'proxies = [\n  "{self.port}:{self.env_name}:{self.label}",\n]\n'
                    write_new(fleet.file, _HEAD + entry)
            except BaseException:
                env_file.unlink()
                raise
        return entry


def open_or_begin(table: Path) -> Fleet:
    """
    Read the *table* that is to be added to; one that is not there or empty has no entries.

    Raises:
        ConfigError: With every mistake in it.

    """
    if not table.exists():
        return Fleet(home=table.parent, file=table, entries=())
    fleet, mistakes = read_fleet(table)
    if any(mistake.text != NO_PROXY for mistake in mistakes):
        raise ConfigError(mistakes)
    return fleet


def preset_of(word: str) -> Preset:
    """Return the preset that *word* names, or what is assumed of any server."""
    return generic_preset() if word == CUSTOM else load_presets()[word]


def env_name(label: str) -> str:
    """Return the env file of a new entry, from the table's folder."""
    return f"envs/{label.lower()}.env"


# Readers of what was typed.


def read_preset(typed: str) -> str:
    """Read a preset's name, or its number in the list."""
    names = [*load_presets(), CUSTOM]
    if typed.isdecimal() and 1 <= int(typed) <= len(names):
        return names[int(typed) - 1]
    if typed.lower() in names:
        return typed.lower()
    close = get_close_matches(typed.lower(), names, n=1)
    meant = f' (did you mean "{close[0]}"?)' if close else ""
    raise UsageError(f'"{typed}" is not a preset{meant}\n  fix: use one of: {", ".join(names)}')


def read_model(typed: str) -> str:
    """Read a model's name; what was meant for another question is none."""
    fix = "give the name that the provider knows it by"
    if holds_key(typed):
        raise UsageError(f"the model cannot be a key: it would be shown\n  fix: {fix}")
    if "://" in typed:
        fix = f"{fix}; addresses go to --base-url"
        raise UsageError(f"the model cannot be an address\n  fix: {fix}")
    return read_setting(settings.BIG_MODEL, typed, "the model")


def read_label(typed: str, fleet: Fleet) -> str:
    """Read a label that neither the table nor a file has yet."""
    if not LABEL.fullmatch(typed) or typed.lower() in RESERVED:
        raise UsageError(f'"{typed}" cannot be a label\n  fix: a label is {LABEL_RULE}')
    entry = fleet.entry(typed)
    if entry is not None:
        where = f"{near(fleet.file)}:{entry.line}"
        free = propose_label(typed, fleet)
        text = f"the label {entry.label} is in the table already ({where})"
        raise UsageError(f"{text}\n  fix: choose another, for example --label {free}")
    check_new([fleet.home / env_name(typed)])
    return typed


def propose_label(word: str, fleet: Fleet) -> str:
    """Return *word*, or *word* with the first number behind it that is free."""
    label, count = word, 1
    while fleet.entry(label) is not None or (fleet.home / env_name(label)).exists():
        count += 1
        label = f"{word[:28]}-{count}"
    return label


def read_port(typed: str, fleet: Fleet) -> int:
    """Read a port that neither the table nor another program has."""
    port = read_setting(settings.PORT, typed, "the port")
    entry = next((entry for entry in fleet.entries if entry.port == port), None)
    fix = f"choose another, for example --port {propose_port(fleet)}"
    if entry is not None:
        where = f"{near(fleet.file)}:{entry.line}"
        text = f"port {port} is that of {entry.label} in the table ({where})"
        raise UsageError(f"{text}\n  fix: {fix}")
    if not _is_free(port):
        from ccproxy.supervisor.sockets.listeners import (
            name_holder_of,  # rarely needed, and costs time
        )

        raise PortInUse(f"{name_holder_of(port)}\n  fix: {fix}")
    return port


def propose_port(fleet: Fleet) -> int:
    """Return the first usual port that neither a program has nor the table, even as an example."""
    taken = {entry.port for entry in fleet.entries} | _ports_of_examples(fleet.file)
    return next(filter(_is_free, ports_besides(taken)))


def read_setting(setting: Setting[T], typed: str, source: str) -> T:
    """Read *typed*, which came from *source*, as env files are read."""
    try:
        return setting.parse(typed.strip())
    except ValueError as error:
        fix = f"give for example {setting.example}"
        raise UsageError(f"{source} {without_keys(str(error))}\n  fix: {fix}") from error


def _ports_of_examples(table: Path) -> set[int]:
    """Return the ports of commented entries, which wait for somebody to take the # off."""
    text = read_regular(table) if table.exists() else ""
    return {int(port) for port in _EXAMPLE_PORT.findall(text)}


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
