"""The environment of `ccproxy run --pane`: Claude Code loads the mod in `pane/` from its folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

FOLDER = Path(__file__).with_name("pane")
PLUGINS = "CLAUDE_CODE_PLUGIN_DIRS"
"""Folders of mods, separated by colons; Claude Code 2.1.287 or newer."""


def pane_environment(
    environ: Mapping[str, str], *, python: str, table: Path, status_line: str
) -> dict[str, str]:
    """
    Return the variables that load the mod, and the commands whose output it shows.

    Mods that *environ* loads already stay. *status_line* is the command of the session's line.
    """
    folders = [folder for folder in environ.get(PLUGINS, "").split(":") if folder]
    fleet = [python, "-P", "-m", "ccproxy", "--config", str(table), "--no-color", "status"]
    return {
        PLUGINS: ":".join(dict.fromkeys([*folders, str(FOLDER)])),
        "CCPROXY_PANE_SESSION": f"{status_line} --lines",
        "CCPROXY_PANE_FLEET": shlex.join(fleet),
    }
