"""
Rewrites the commands in ccproxy's output so that they can be pasted into this shell.

After `make run`, ccproxy is in `.venv/bin` and not on PATH. A plain `ccproxy logs` would not be
found, or would run another version.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from ccproxy.cli.command import commands

NAME = "ccproxy"


def callable_here(text: str) -> str:
    """Return *text* with this program's path in every command `ccproxy NAME …`."""
    name = program(sys.argv[0])
    if name == NAME or NAME not in text:
        return text
    command_line = rf"(?<![\w./#-]){NAME}(?= (?:{'|'.join(commands())}|--help)\b)"
    return re.sub(command_line, lambda _: name, text)


def program(invoked: str) -> str:
    """Return the command that calls this ccproxy again; *invoked* is its argv[0]."""
    if Path(invoked).stem != NAME or os.sep not in invoked:
        return NAME  # on PATH, or started under another name such as `python -m ccproxy`
    on_path = shutil.which(NAME)
    this = Path(invoked)
    if on_path is not None and this.exists() and this.samefile(on_path):
        return NAME
    return shlex.quote(invoked)
