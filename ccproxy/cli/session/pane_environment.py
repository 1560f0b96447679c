"""The environment of `ccproxy run --pane`, which makes Claude Code load the mod in `pane/`."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("pane")
PLUGINS = "CLAUDE_CODE_PLUGIN_DIRS"
"""Folders of mods, separated by colons; Claude Code 2.1.287 or newer."""


def copy_pane(folder: Path) -> Path:
    """
    Copy the mod into *folder* and return its path there.

    Claude Code writes type declarations into a mod's folder, so the folder must be outside the
    package.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(shutil.copytree(SOURCE, folder / "pane.mod", dirs_exist_ok=True))


def pane_environment(
    environ: Mapping[str, str], mod: Path, *, python: str, table: Sequence[str], status_line: str
) -> dict[str, str]:
    """
    Return the variables that load the *mod*, and those with the commands whose output it displays.

    Mods that *environ* already loads are kept. *table* holds the arguments that name the fleet, and
    *status_line* is the command of the session's status line.
    """
    folders = [folder for folder in environ.get(PLUGINS, "").split(":") if folder]
    fleet = [python, "-P", "-m", "ccproxy", *table, "--no-color", "status"]
    return {
        PLUGINS: ":".join(dict.fromkeys([*folders, str(mod)])),
        "CCPROXY_PANE_SESSION": f"{status_line} --lines",
        "CCPROXY_PANE_FLEET": shlex.join(fleet),
    }
