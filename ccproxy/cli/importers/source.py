"""Recognize another tool's file by its content, and import it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ccproxy.cli.importers.builder import ImportBuilder, Imported
from ccproxy.cli.importers.document import (
    MOST_DUMP_BYTES,
    failure,
    parse_json,
    parse_yaml,
    read_bytes,
)
from ccproxy.cli.importers.env_settings import import_env_settings
from ccproxy.cli.importers.litellm_config import import_litellm_config
from ccproxy.cli.importers.models_yaml import import_models
from ccproxy.cli.importers.router_config import import_router_config
from ccproxy.cli.importers.switch_providers import (
    SQL_HEADER,
    import_switch_providers,
    is_switch_config,
    providers_in_config,
    providers_in_dump,
    read_database,
)
from ccproxy.config.fleet import Fleet
from ccproxy.files import open_regular

KNOWN_FILES = (
    "~/.claude-code-router/config.sqlite",
    "~/.claude-code-router/config.json",
    "~/.cc-switch/cc-switch.db",
    "~/.cc-switch/config.json",
)
"""The default locations of other tools' configuration."""
_SQLITE = b"SQLite format 3\0"
_UNKNOWN = "is none of the formats that can be imported"
_FORMATS = "see the list in: ccproxy import --help"


def import_file(file: Path, fleet: Fleet, environ: Mapping[str, str]) -> Imported:
    """
    Import the *file* of any known tool; nothing is written.

    Raises:
        ConfigError: If it is damaged, too large or not the file of a known tool.
        CcproxyError: If it is YAML and PyYAML is not installed.
        OSError: If it cannot be read, or is not a regular file.
    """
    build = ImportBuilder(file, fleet, environ)
    with os.fdopen(open_regular(file), "rb") as source:
        head = source.read(64)
    if head.startswith(_SQLITE):
        _import_database(file, build)
    elif head.removeprefix(b"\xef\xbb\xbf").startswith(SQL_HEADER):
        sql = _decoded(read_bytes(file, most=MOST_DUMP_BYTES), file)
        import_switch_providers(providers_in_dump(sql, file), build)
    else:
        _import_text(_decoded(read_bytes(file), file), file, build)
    return build.result()


def _import_database(file: Path, build: ImportBuilder) -> None:
    providers, document = read_database(file)
    if providers is not None:
        import_switch_providers(providers, build)
        return
    if document is None:
        raise failure(file, _UNKNOWN, _FORMATS)
    _import_document(parse_json(document, file), file, build)


def _import_text(text: str, file: Path, build: ImportBuilder) -> None:
    start = text.lstrip()
    if start.startswith("{") or (start.startswith("/") and file.suffix == ".json"):
        _import_document(parse_json(text, file), file, build)
        return
    lines = [line.strip() for line in text.splitlines()]
    settings = [line for line in lines if line and not line.startswith("#")]
    first = settings[0].removeprefix("export ") if settings else ""
    if first.partition("=")[0].strip().isidentifier() and "=" in first:
        import_env_settings(text, build)
        return
    document = parse_yaml(text, file)
    if isinstance(document, dict) and "model_list" in document:
        import_litellm_config(document, build)
    else:
        import_models(document, build)


def _import_document(document: object, file: Path, build: ImportBuilder) -> None:
    """Import a JSON object."""
    table = document if isinstance(document, dict) else {}
    exported = table.get("config")
    if isinstance(exported, dict) and ("Providers" in exported or "providers" in exported):
        table = exported  # the export of claude-code-router
    if isinstance(table.get("Providers", table.get("providers")), list):
        import_router_config(table, build)
    elif is_switch_config(table):
        import_switch_providers(providers_in_config(table), build)
    elif "model_list" in table:
        import_litellm_config(table, build)
    elif table:
        import_models(table, build)
    else:
        raise failure(file, _UNKNOWN, _FORMATS)


def _decoded(content: bytes, file: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise failure(file, "is not UTF-8 text", _FORMATS) from error
