"""The parts of an entry that a container needs: plain settings, and names of secrets."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ccproxy.cli.render.terminal import short_path
from ccproxy.config import settings as s
from ccproxy.config.fleet import Entry
from ccproxy.config.parsers import without_credentials
from ccproxy.config.reader import read_file
from ccproxy.errors import ConfigError, UsageError

_FILES = ("CA_BUNDLE", "USERS", "PROVIDER_API_KEYS_FILE", "TLS_CERT", "TLS_KEY")
"""Settings with file paths; the files do not exist in a container."""
_LEFT_OUT = frozenset({"HOST", "PORT", "METRICS", *_FILES})
"""Settings that the container determines."""
_STANDARD_PORTS = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerEntry:
    """One entry, without secret values."""

    name: str
    """The label as a name that Kubernetes accepts."""
    label: str
    port: int
    """Its port in the table."""
    env_file: Path
    settings: Mapping[str, str]
    """The settings that are not secrets."""
    secrets: tuple[str, ...]
    """The names of the secret settings."""
    files: tuple[str, ...]
    """The names of the settings with file paths."""
    lacks_client_key: bool
    """True if it has neither client keys nor users, so that its container would exit at once."""
    ports: tuple[int, ...]
    """The ports to which it connects: the provider's and Redis's."""

    @property
    def secret_name(self) -> str:
        """The name of its Kubernetes secret."""
        return f"ccproxy-{self.name}"

    @property
    def create_secret(self) -> str:
        """The command that creates its secret, with a placeholder for each value."""
        literals = " ".join(f"--from-literal={name}=…" for name in self.secrets)
        return f"kubectl create secret generic {self.secret_name} {literals}"

    def drain_seconds(self, *, delay: str, timeout: str) -> int:
        """
        Return how long a container may need to stop; *delay* and *timeout* are defaults.

        Raises:
            UsageError: If a value is not valid.
        """
        total = 0.0
        for setting, default in ((s.DRAIN_DELAY, delay), (s.DRAIN_TIMEOUT, timeout)):
            try:
                total += setting.parse(self.settings.get(setting.name, default))
            except ValueError as error:
                text = f"{self.label}: {setting.name} {error}"
                raise UsageError(f"{text}\n  fix: correct {short_path(self.env_file)}") from error
        return math.ceil(total)


def container_entry(entry: Entry) -> ContainerEntry:
    """
    Return the container settings of *entry*, read from its env file.

    Raises:
        ConfigError: If the file cannot be read or some of its lines cannot be parsed.
    """
    settings = _settings(entry)
    secrets = [name for name, value in settings.items() if _is_secret(name, value)]
    if "ANTHROPIC_API_KEY" not in secrets:
        secrets.append("ANTHROPIC_API_KEY")  # a container listens on every address
    return ContainerEntry(
        name=re.sub(r"[^a-z0-9]+", "-", entry.label.lower()).strip("-"),
        label=entry.label,
        port=entry.port,
        env_file=entry.env_file,
        settings={
            name: value
            for name, value in settings.items()
            if name not in secrets and name not in _LEFT_OUT
        },
        secrets=tuple(name for name in secrets if name not in _LEFT_OUT),
        files=tuple(name for name in _FILES if name in settings),
        lacks_client_key=_lacks_client_key(settings),
        ports=tuple(sorted({443, *filter(None, map(_port_of, settings.values()))})),
    )


def _lacks_client_key(settings: Mapping[str, str]) -> bool:
    if settings.keys() & {s.ANTHROPIC_API_KEY.name, s.USERS.name}:
        return False
    try:
        return not s.ALLOW_PUBLIC.parse(settings.get(s.ALLOW_PUBLIC.name, "off"))
    except ValueError:
        return True


def _is_secret(name: str, value: str) -> bool:
    """Return True if the value of a setting is a credential, or may contain one."""
    has_login = "://" in value and without_credentials(value) != value
    return s.is_secret_setting(name) or name == s.REDIS_URL.name or has_login


def _settings(entry: Entry) -> dict[str, str]:
    """Return the settings in the env file of *entry* that have a value."""
    env = read_file(entry.env_file, entry=entry)
    if env.mistakes:
        raise ConfigError(env.mistakes)
    values = env.prefixed("")
    return {one.name: one.text for one in values if one.text and s.is_setting(one.name)}


def _port_of(value: str) -> int | None:
    """Return the port of a URL, or None."""
    if "://" not in value:
        return None
    try:
        url = urlsplit(value)
        return url.port or _STANDARD_PORTS.get(url.scheme)
    except ValueError:
        return None
