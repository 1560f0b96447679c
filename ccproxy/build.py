"""Hashes the installed source, to detect upgrades without a version bump, such as a `git pull`."""

from __future__ import annotations

import hashlib
from pathlib import Path


def build_of(package: Path) -> str:
    """Return a hash of the Python files of *package*: twelve hexadecimal characters."""
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(str(file.relative_to(package)).encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def installed_build() -> str:
    """Return the hash of the source on disk; a process records its own at startup."""
    return build_of(Path(__file__).parent)
