"""
What a live switch has made of an entry's tiers: one small file in `state/`, read by every worker.

It is replaced by rename, so that whoever reads it finds the old switch or the new one, and it
outlives workers and supervisor. A file that cannot be read counts as none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccproxy.routing.names import NO_TIERS, Tiers
from ccproxy.routing.tiers import TIERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """The tiers that hold instead of the env file's, and the preset that they are from."""

    tiers: Tiers = NO_TIERS
    preset: str | None = None

    @property
    def name(self) -> str:
        """What `status` calls it; empty where nothing is switched."""
        if self.tiers == NO_TIERS:
            return ""
        return self.preset or "switched"


NO_SWITCH = Switch()


def switch_path(state: Path, label: str) -> Path:
    """Return where the switch of the entry *label* is kept."""
    return state / f"{label.lower()}.switch.json"


def read_switch(path: Path) -> Switch:
    """Read a switch; none where there is no file, or none that can be read."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return _switch(fields)
    except (OSError, ValueError, TypeError, AttributeError):
        return NO_SWITCH


def write_switch(path: Path, switch: Switch) -> None:
    """Keep *switch*; an empty one removes the file."""
    if switch.tiers == NO_TIERS:
        path.unlink(missing_ok=True)
        return
    replace_json(path, {tier: switch.tiers.of(tier) for tier in TIERS} | {"preset": switch.preset})


def replace_json(path: Path, fields: Mapping[str, Any]) -> None:
    """Write *fields* so that whoever reads the file finds them or what was there before."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        draft.unlink()
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        json.dump(fields, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _switch(fields: dict[str, Any]) -> Switch:
    given = {tier: fields.get(tier) for tier in TIERS}
    words = [*given.values(), fields.get("preset")]
    if not all(word is None or isinstance(word, str) for word in words):
        raise TypeError("a switch holds names")
    return Switch(tiers=Tiers(**given), preset=fields.get("preset"))
