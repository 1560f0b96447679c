"""Hashes the installed source, to detect upgrades without a version bump, such as a `git pull`."""

from __future__ import annotations

import hashlib
from pathlib import Path

_SUFFIXES = (".py", ".toml", ".json", ".lua")
"""Suffixes of code, and of the presets, catalogue and scripts that processes read only once."""


def build_of(package: Path) -> str:
    """Return a hash of the code and data of *package*: twelve hexadecimal characters."""
    digest = hashlib.sha256()
    for file in sorted(file for file in package.rglob("*.*") if file.suffix in _SUFFIXES):
        digest.update(str(file.relative_to(package)).encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def installed_build() -> str:
    """Return the hash of the source on disk; a process records its own at startup."""
    return build_of(Path(__file__).parent)
