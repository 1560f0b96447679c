"""
The fenced blocks of the documentation.

A `console` block is a session: lines that begin with `$ ` are commands, and the lines below each
are its output, in which `…` matches any text. A test runs every session. An `sh` block needs a
network, a terminal or another program; a test checks its syntax, and its ccproxy commands and
options.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from tests.fleet import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("**/*.md")),
]
# A block in a list is indented.
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"\s+#\s.*")


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a session and the output that the page shows."""

    command: str
    output: str


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the text of the fenced blocks in *languages*."""
    if not page.exists():
        return []
    text = page.read_text(encoding="utf-8")
    return [dedent(body) for _, language, body in _FENCE.findall(text) if language in languages]


def steps(page: Path) -> list[Step]:
    """Return the commands of the page's sessions, in order."""
    result = []
    for body in blocks(page, "console"):
        for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            result.append(Step(command, output.strip("\n")))
    return result


def output_matches(expected: str, actual: str) -> bool:
    """Return True if *actual* is *expected*, where `…` matches any text."""
    squeezed = [re.sub(r"[ \t]+", " ", text).strip() for text in (expected, actual)]
    pattern = ".*".join(map(re.escape, squeezed[0].split("…")))
    return re.fullmatch(pattern, squeezed[1], re.DOTALL) is not None


def ccproxy_calls(script: str) -> Iterator[list[str]]:
    """Return the arguments of each ccproxy call in a shell *script* or a line of text."""
    for line in script.replace("\\\n", " ").splitlines():
        for call in re.findall(r"(?:^|[|;&(]|[A-Z_]+=\S+)\s*ccproxy( [^|;&<>)\"]*)", f"{line}"):
            words = shlex.split(_COMMENT.sub("", call), comments=True)
            if words:
                yield words
