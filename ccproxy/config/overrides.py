"""
How the switches of an entry stand that are thrown while it runs: of the proxy, and of history.

One small file in `state/`, as `config/switches.py` has one for the models: every process of the
entry reads it, and it outlives them. A proxy that its user has switched off must not come back on
because a worker was restarted: requests would go to a provider that was not meant to get them.
What stands as the env file says is not kept, and a file that cannot be read counts as none.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ccproxy.config.switches import replace_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the switches stand."""

    is_off: bool = False
    """The proxy lets requests pass it by."""
    history: bool | None = None
    """Whether turns are kept; None: as the env file says."""
    file: str = ""
    """The name of the export that turns are written to as they come."""


AS_CONFIGURED = Standing()


def standing_path(state: Path, label: str) -> Path:
    """Return where the switches of the entry *label* are kept."""
    return state / f"{label.lower()}.standing.json"


def read_standing(path: Path) -> Standing:
    """Read how the switches stand; as configured where there is no file that can be read."""
    try:
        return _standing(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return AS_CONFIGURED


def change_standing(path: Path, changes: Mapping[str, Any]) -> Standing:
    """
    Change the fields in *changes* and return what stands then; other fields stay.

    Raises:
        OSError: If the file cannot be written.

    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    lock = os.open(path.with_name(f"{path.name}.lock"), flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes may change two fields at once
        old = read_standing(path)
        new = replace(old, **changes)
        if new == AS_CONFIGURED:
            path.unlink(missing_ok=True)
        elif new != old:
            replace_json(path, asdict(new))
        return new
    finally:
        os.close(lock)


def _standing(fields: Mapping[str, Any]) -> Standing:
    standing = Standing(**fields)
    kinds = ((standing.is_off, bool), (standing.history, bool | None), (standing.file, str))
    if not all(isinstance(value, kind) for value, kind in kinds):
        raise TypeError("not the switches of an entry")
    return standing
