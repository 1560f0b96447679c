"""
cc-switch: its database, its SQL export, and the config.json of early versions.

Each provider of Claude Code or Codex becomes an entry. Gemini CLI and the other programs that
cc-switch configures cannot use ccproxy.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ccproxy.cli.importers.builder import (
    ImportBuilder,
    names,
    provider_settings,
    same_models,
    table_of,
    text_of,
    timeout_setting,
)
from ccproxy.cli.importers.document import MOST_BYTES, check_bounds, failure
from ccproxy.config import settings as s

if TYPE_CHECKING:
    import sqlite3

TOOL = "cc-switch"
SQL_HEADER = b"-- CC Switch SQLite"
_MOST_ROWS = 500
_MOST_BYTES = 2**18
"""The maximum size of one provider's settings."""
_LARGEST_ROW = 2**22
"""In bytes."""
_MOST_STEPS = 20_000_000
_STEPS_PER_CHECK = 10_000
"""Both limits are in SQLite instructions."""
_APPS = ("claude", "codex")
_STATEMENT = re.compile(
    r"""'(?:[^']|'')*+(?:'|\Z)|"(?:[^"]|"")*+(?:"|\Z)|--[^\n]*+|/\*[\s\S]*?(?:\*/|\Z)|;"""
)
_PROVIDERS = re.compile(
    r"(?:\s|--[^\n]*\n)*(?:CREATE TABLE(?: IF NOT EXISTS)?|INSERT(?: OR \w+)? INTO)"
    r'\s+"?providers\b',
    re.IGNORECASE,
)
_TIERS = (
    (s.BIG_MODEL, ("ANTHROPIC_DEFAULT_OPUS_MODEL", "ANTHROPIC_MODEL")),
    (s.MIDDLE_MODEL, ("ANTHROPIC_DEFAULT_SONNET_MODEL", "ANTHROPIC_MODEL")),
    (
        s.SMALL_MODEL,
        ("ANTHROPIC_DEFAULT_HAIKU_MODEL", "ANTHROPIC_SMALL_FAST_MODEL", "ANTHROPIC_MODEL"),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchProvider:
    """One provider as cc-switch stores it."""

    app: str
    name: str
    settings: Mapping[str, Any] = field(repr=False)
    meta: Mapping[str, Any] = field(repr=False)
    is_current: bool
    in_failover: bool


def import_switch_providers(providers: Iterable[SwitchProvider], build: ImportBuilder) -> None:
    """Import the providers of Claude Code and Codex."""
    build.tool = TOOL
    labels_by_identity: dict[tuple[str, ...], str] = {}
    queue: dict[str, bool] = {}
    skipped: dict[str, int] = {}
    for provider in providers:
        if provider.app not in _APPS:
            skipped[provider.app] = skipped.get(provider.app, 0) + 1
            continue
        settings, key = _settings_of(provider, build)
        if not settings:
            continue
        identity = (*(f"{name}={value}" for name, value in sorted(settings.items())), key)
        if identity in labels_by_identity:
            reason = f"it is the same as {labels_by_identity[identity]}"
            build.leave_out(f"{provider.name} ({provider.app})", reason)
            continue
        label = build.add(provider.name, settings, key=key)
        if label:
            labels_by_identity[identity] = label
        if label and provider.in_failover and provider.app == "claude":
            queue[label] = provider.is_current
    for app, count in skipped.items():
        build.leave_out(f"{count} of {app}", "only providers of Claude Code and Codex are imported")
    first = next(
        (label for label, is_current in queue.items() if is_current), next(iter(queue), "")
    )
    build.fall_back(first, queue)


def _settings_of(provider: SwitchProvider, build: ImportBuilder) -> tuple[dict[str, str], str]:
    """Return the settings of *provider* and its key; the settings are empty if it is left out."""
    name = f"{provider.name} ({provider.app})"
    if text_of(provider.meta, "providerType") or table_of(provider.meta, "authBinding").get(
        "authProvider"
    ):
        build.leave_out(name, "it uses a login that cc-switch keeps, not a key")
        return {}, ""
    try:
        if provider.app == "codex":
            return _codex_settings(provider)
        return _claude_settings(provider)
    except (ValueError, RecursionError) as error:
        build.leave_out(name, str(error))
        return {}, ""


def _claude_settings(provider: SwitchProvider) -> tuple[dict[str, str], str]:
    env = table_of(provider.settings, "env")
    address = text_of(env, "ANTHROPIC_BASE_URL")
    if not address:
        raise ValueError("it has no ANTHROPIC_BASE_URL: it is the login of Claude Code")
    formats = names("switch_formats")
    dialect = text_of(provider.meta, "apiFormat") or "anthropic"
    if dialect not in formats:
        raise ValueError(f'its format "{dialect}" is not supported')
    settings = provider_settings(address, api=formats[dialect])
    for setting, variables in _TIERS:
        if model := text_of(env, *variables):
            settings[setting.name] = re.sub(r"\s*\[1m\]$", "", model, flags=re.IGNORECASE)
    settings |= timeout_setting(text_of(env, "API_TIMEOUT_MS"))
    return settings, text_of(env, "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY")


def _codex_settings(provider: SwitchProvider) -> tuple[dict[str, str], str]:
    config = tomllib.loads(text_of(provider.settings, "config"))
    chosen = text_of(config, "model_provider")
    server = table_of(table_of(config, "model_providers"), chosen)
    address = text_of(server, "base_url")
    key = text_of(table_of(provider.settings, "auth"), "OPENAI_API_KEY")
    if not address:
        raise ValueError("it has no base_url: it is the login of Codex")
    dialect = "responses" if text_of(server, "wire_api") == "responses" else "chat"
    settings = provider_settings(address, api=dialect)
    settings |= same_models(text_of(config, "model"))
    return settings, key or text_of(server, "experimental_bearer_token")


# Reading the three formats.


def providers_in_config(document: Mapping[str, Any]) -> Iterator[SwitchProvider]:
    """Yield the providers in a config.json of versions before 3.8."""
    for app in document:
        manager = table_of(document, app)
        for identifier, row in table_of(manager, "providers").items():
            if isinstance(row, dict):
                yield SwitchProvider(
                    app=app,
                    name=text_of(row, "name") or identifier,
                    settings=table_of(row, "settingsConfig"),
                    meta=table_of(row, "meta"),
                    is_current=manager.get("current") == identifier,
                    in_failover=row.get("inFailoverQueue") is True,
                )


def is_switch_config(document: Mapping[str, Any]) -> bool:
    """Return True if *document* is the config.json of an early version."""
    return any("providers" in table_of(document, app) for app in _APPS)


def providers_in_dump(sql: str, file: Path) -> list[SwitchProvider]:
    """
    Return the providers of an export. Only statements about their table are run, in memory.

    Raises:
        ConfigError: If the statements fail, or do anything other than fill the table.

    """
    import sqlite3

    with closing(_connected(":memory:")) as connection:
        connection.set_authorizer(_authorize)
        try:
            with _limited(connection):
                for statement in filter(_PROVIDERS.match, _statements(sql)):
                    connection.execute(statement)
            connection.set_authorizer(None)
            return _rows(connection, file)
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise failure(file, f"cannot be read: {error}", "export it again") from error


def read_database(file: Path) -> tuple[list[SwitchProvider] | None, str | None]:
    """
    Read a database of cc-switch or claude-code-router without modifying it.

    Returns the providers of cc-switch, or None, and the document of claude-code-router, or None.

    Raises:
        ConfigError: If it is damaged.

    """
    import sqlite3

    error: sqlite3.Error | None = None
    # "immutable" also works in a read-only folder, but ignores the write-ahead log.
    for mode in ("mode=ro", "mode=ro&immutable=1"):
        try:
            address = f"file:{quote(str(file.resolve()))}?{mode}"
            with closing(_connected(address)) as connection:
                return _read(connection, file)
        except sqlite3.Error as caught:
            error = caught
    raise failure(
        file, f"cannot be read: {error}", "close the program that is using the file"
    ) from error


def _connected(address: str) -> sqlite3.Connection:
    """Open a database with limits on the size of rows and of values computed by its schema."""
    import sqlite3

    connection = sqlite3.connect(address, uri=True)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_ROW)
    return connection


def _read(
    connection: sqlite3.Connection, file: Path
) -> tuple[list[SwitchProvider] | None, str | None]:
    connection.execute("PRAGMA trusted_schema = OFF")
    listed = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' LIMIT 1000")
    tables = {name for (name,) in listed}
    if "providers" in tables:
        return _rows(connection, file), None
    if "app_config" not in tables:
        return None, None
    query = "SELECT value_json FROM app_config WHERE key = 'default' AND length(value_json) <= ?"
    with _limited(connection):
        row = connection.execute(query, (MOST_BYTES,)).fetchone()
    return None, str(row[0]) if row else None


def _rows(connection: sqlite3.Connection, file: Path) -> list[SwitchProvider]:
    columns = {row[1] for row in connection.execute("PRAGMA table_info(providers)")}
    meta, current, failover, position = (
        one if one in columns else "NULL"
        for one in ("meta", "is_current", "in_failover_queue", "sort_index")
    )
    query = (
        "SELECT substr(app_type, 1, 99), substr(name, 1, 99), settings_config, "  # noqa: S608
        f"substr({meta}, 1, 9999), CAST({current} AS INTEGER), CAST({failover} AS INTEGER) "
        f"FROM providers WHERE length(settings_config) <= {_MOST_BYTES} "
        f"ORDER BY app_type, {position}, name LIMIT {_MOST_ROWS}"
    )
    with _limited(connection):
        rows = connection.execute(query).fetchall()
    return [
        SwitchProvider(
            app=str(app),
            name=str(name),
            settings=_object(settings, file),
            meta=_object(meta, file),
            is_current=bool(current),
            in_failover=bool(failover),
        )
        for app, name, settings, meta, current, failover in rows
    ]


def _object(text: object, file: Path) -> Mapping[str, Any]:
    """Return the JSON object in a column, or an empty one."""
    try:
        value = json.loads(text) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        return {}
    return check_bounds(value, file) if isinstance(value, dict) else {}


@contextmanager
def _limited(connection: sqlite3.Connection) -> Iterator[None]:
    """Abort statements that run too long: the schema of a damaged file may contain anything."""
    steps = 0

    def is_over() -> bool:
        nonlocal steps
        steps += _STEPS_PER_CHECK
        return steps > _MOST_STEPS

    connection.set_progress_handler(is_over, _STEPS_PER_CHECK)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)


def _authorize(action: int, _: str | None, name: str | None, *__: str | None) -> int:
    """Allow creating and filling a table; SQLite also writes to its own schema tables."""
    import sqlite3

    allowed = {
        sqlite3.SQLITE_CREATE_TABLE,
        sqlite3.SQLITE_CREATE_INDEX,  # for the primary key
        sqlite3.SQLITE_INSERT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_UPDATE,
    }
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_OK if name in ("datetime", "unistr") else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY


def _statements(sql: str) -> Iterator[str]:
    """Yield the statements of *sql*, split at semicolons outside of strings and comments."""
    start = 0
    for match in _STATEMENT.finditer(sql):
        if match[0] == ";":
            yield sql[start : match.end()]
            start = match.end()
    yield sql[start:]
