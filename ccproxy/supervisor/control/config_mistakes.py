"""Mistakes in the user's files, as they cross a pipe or a socket."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ccproxy.errors import Mistake


def mistakes_to_json(mistakes: Sequence[Mistake]) -> list[dict[str, Any]]:
    """Write mistakes so that they can cross a pipe or socket."""
    return [asdict(mistake) | {"file": str(mistake.file)} for mistake in mistakes]


def mistakes_from_json(rows: Sequence[Mapping[str, Any]]) -> list[Mistake]:
    """Read what `mistakes_to_json` wrote."""
    return [Mistake(**{**row, "file": Path(row["file"])}) for row in rows]
