"""
Commands for the user to paste, under the name by which this ccproxy can be called.

After `make run` it lies in `.venv/bin` and not on PATH: `ccproxy logs` would find nothing, or a
ccproxy of another version.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from ccproxy.cli.verbs import VERBS

NAME = "ccproxy"


def pasted(text: str) -> str:
    """Return *text* with every command in it, `ccproxy VERB …`, as it can be called here."""
    name = program(sys.argv[0])
    if name == NAME or NAME not in text:
        return text
    command = rf"(?<![\w./#-]){NAME}(?= (?:{'|'.join(VERBS)}|--help)\b)"
    return re.sub(command, lambda _: name, text)


def program(invoked: str) -> str:
    """Return what to type for ccproxy, which was started as *invoked* (argv[0])."""
    if Path(invoked).stem != NAME or os.sep not in invoked:
        return NAME  # found on PATH, or started by another name, such as python -m ccproxy
    found = shutil.which(NAME)
    this = Path(invoked)
    if found is not None and this.exists() and this.samefile(found):
        return NAME
    return shlex.quote(invoked)
