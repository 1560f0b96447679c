"""The files of the page: hand-written modules and vendored libraries, served unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).with_name("static")
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


class StaticFile(NamedTuple):
    """One file and its type."""

    content: bytes
    content_type: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """Return every file by its path in the URL, such as `/views/keys.js`."""
    return {
        f"/{path.relative_to(FOLDER).as_posix()}": StaticFile(
            path.read_bytes(), _TYPES[path.suffix]
        )
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in _TYPES
    }
