"""
The catalogue file in use: this release's, or a newer one that the user has installed.

`ccproxy models --update FILE` installs a file in the user's config folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from ccproxy.config.locations import user_folder
from ccproxy.errors import ConfigError, Mistake
from ccproxy.providers.cards import name_matcher
from ccproxy.providers.catalogue import (
    Catalogue,
    Section,
    parse_catalogue,
    shipped_catalogue_file,
)
from ccproxy.providers.presets import Endpoint, rows_of

FILE_NAME = "catalogue.json"


def user_catalogue_file(environ: Mapping[str, str] | None = None) -> Path:
    """Return the path of the user's catalogue, which might not exist."""
    return user_folder(os.environ if environ is None else environ) / FILE_NAME


def active_catalogue() -> Catalogue:
    """
    Return the catalogue in use: the user's if it is newer than this release's.

    Raises:
        ConfigError: If the user's file cannot be read.
    """
    shipped = shipped_catalogue()
    file = user_catalogue_file()
    try:
        facts = file.stat()
    except OSError:  # not installed, or in a folder that cannot be searched
        return shipped
    installed = _read(file, facts.st_mtime_ns, facts.st_size)
    return installed if installed.date > shipped.date else shipped


def provider_rows(provider: str, endpoint: Endpoint) -> Section:
    """
    Return the active catalogue's rows for *endpoint* of *provider* ("" for any other server).

    Raises:
        ConfigError: If the user's file is invalid.
    """
    catalogue = active_catalogue()
    try:
        return rows_of(catalogue, provider, endpoint)
    except ValueError as error:
        raise _invalid(user_catalogue_file(), error) from error


def release_catalogue() -> None:
    """Free the 0.4 MiB that the catalogue occupies; its next use reads the file again."""
    name_matcher.cache_clear()
    shipped_catalogue.cache_clear()
    _read.cache_clear()


@lru_cache(maxsize=1)
def shipped_catalogue() -> Catalogue:
    """Return this release's catalogue."""
    return parse_catalogue(shipped_catalogue_file().read_bytes())


@lru_cache(maxsize=1)
def _read(file: Path, _changed: int, _size: int) -> Catalogue:
    try:
        return parse_catalogue(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _invalid(file, error) from error


def _invalid(file: Path, error: Exception) -> ConfigError:
    text = f"the model catalogue cannot be used: {error}"
    fix = "install it again with ccproxy models --update FILE, or remove it with --reset"
    return ConfigError([Mistake(file=file, line=None, text=text, fix=fix)])
