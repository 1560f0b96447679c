"""
The measured quirks of models: `state/profiles`, one file per provider address.

`ccproxy probe` writes them. They override the catalogue for this address and model, in Chat
Completions, until the file is deleted. An unreadable file is ignored: the worker starts with the
catalogue alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ccproxy.files import locked, read_regular, write_atomically
from ccproxy.providers.quirks import Quirks

FOLDER = "profiles"


class MeasuredModel(msgspec.Struct, frozen=True, kw_only=True):
    """The measurements of one model."""

    date: str
    """The date of the measurement, YYYY-MM-DD."""
    quirks: dict[str, Any]
    differs: tuple[str, ...] = ()
    """The quirks that differ from the assumed ones."""
    max_output: int | None = None
    """The output limit in tokens; None if no refusal named it."""
    overflow: str = ""
    """The provider's error for a too-long request, if ccproxy does not recognize it."""


class Profiles(msgspec.Struct, frozen=True, kw_only=True):
    """The measured models at one address."""

    base_url: str
    provider: str = ""
    """The provider preset; empty if there is none."""
    models: dict[str, MeasuredModel] = {}


def profiles_path(state: Path, base_url: str) -> Path:
    """Return the path of the profiles of the models at *base_url*."""
    return state / FOLDER / f"{hashlib.sha256(base_url.encode()).hexdigest()[:16]}.json"


def read_profiles(path: Path) -> Profiles | None:
    """Return the profiles in the file *path*, or None if it cannot be read."""
    try:
        profiles = msgspec.json.decode(read_regular(path), type=Profiles)
        for model in profiles.models.values():
            msgspec.convert(model.quirks, Quirks)
    except (OSError, ValueError):
        return None
    return profiles


def measured_quirks(profiles: Profiles | None) -> dict[str, Mapping[str, Any]]:
    """Return the measured quirks by model."""
    models = profiles.models if profiles else {}
    return {name: _typed(model.quirks) for name, model in models.items()}


def measured_outputs(profiles: Profiles | None) -> dict[str, int]:
    """Return the measured output limits in tokens, by model."""
    models = profiles.models if profiles else {}
    return {name: model.max_output for name, model in models.items() if model.max_output}


def save_profile(path: Path, profiles: Profiles, model: str, measured: MeasuredModel) -> None:
    """
    Add a model to the file; *profiles* contains the address and the preset.

    Raises:
        OSError: If it cannot be written.
    """
    with locked(path.with_suffix(".lock")):  # several processes measure models of one provider
        old = read_profiles(path)
        models = {**(old.models if old else {}), model: measured}
        new = msgspec.structs.replace(profiles, models=models)
        write_atomically(path, msgspec.json.format(msgspec.json.encode(new)).decode())


def _typed(fields: Mapping[str, Any]) -> dict[str, Any]:
    quirks = msgspec.convert(dict(fields), Quirks)
    return {name: getattr(quirks, name) for name in fields}
