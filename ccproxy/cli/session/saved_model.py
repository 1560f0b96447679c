"""
The model that Claude Code saves in the user's settings.json.

A choice in `/model` is always saved there, and a saved name selects the model of every later
session, on every provider. A name such as `Kimi:small` means nothing to Anthropic and selects the
wrong provider elsewhere. So such a name is removed from the file when a session starts and when one
ends: the user's own value is restored, and the choice is saved for the label of the session.

A running session does not react to changes to the file (measured with 2.1.332).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ccproxy.cli.session.claude_settings import read_user_settings, write_user_settings
from ccproxy.errors import UsageError
from ccproxy.files import read_object, write_atomically
from ccproxy.routing.names import ModelRef, parse_ref

_OWN = "user.saved"
"""The user's own model by settings file; null if there is none. No label ends with this suffix."""
_SESSIONS = "sessions.lock"
"""Every session holds a shared lock on this file."""


class SavedModel:
    """Keeps the names of a fleet's models out of the user's *settings* file."""

    def __init__(self, folder: Path, settings: Path, labels: Mapping[str, str]) -> None:
        self._folder = folder
        self._settings = settings
        self._labels = labels

    def choice(self, label: str) -> str:
        """Return the model that was last chosen in a session on *label*; empty if none was."""
        with suppress(OSError, ValueError):
            return self._choice_file(label).read_text(encoding="utf-8").strip()
        return ""

    def clean(self) -> str:
        """
        Replace a saved model of the fleet with the user's own; return its name, or an empty string.

        The saved model becomes the choice for its own label, because the session that saved it is
        unknown.
        """
        document = self._read()
        if document is None:
            return ""
        name = document.get("model")
        ref = self._fleet_model(name)
        if ref is None:
            self._remember_own(name)
            return ""
        self._put_back(document)
        self._keep_choice(ref.label, str(name))
        return str(name)

    @contextmanager
    def session(self, label: str) -> Iterator[None]:
        """Save the choice made during a session on *label*, and restore the user's own model."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        lock = os.open(self._folder / _SESSIONS, flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield
            self._end(label, is_only=_can_lock(lock))
        finally:
            os.close(lock)

    def _end(self, label: str, *, is_only: bool) -> None:
        document = self._read() or {}
        name = document.get("model")
        ref = self._fleet_model(name)
        if ref is None:
            return
        # Another running session may have saved the name, so it is a choice for its own label.
        self._keep_choice(label if is_only else ref.label, str(name))
        self._put_back(document)

    def _fleet_model(self, name: object) -> ModelRef | None:
        """Return the entry and model that *name* means, or None if the fleet has no such model."""
        return parse_ref(name, self._labels) if isinstance(name, str) else None

    # The files.

    def _read(self) -> dict[str, Any] | None:
        """Return the user's settings; None if they are unreadable, which Claude Code reports."""
        try:
            return read_user_settings(self._settings)
        except (OSError, UsageError):
            return None

    def _put_back(self, document: dict[str, Any]) -> None:
        """Write the user's settings *document* with the user's own model."""
        own = read_object(self._folder / _OWN).get(str(self._settings))
        if own is None:
            document.pop("model", None)
        else:
            document["model"] = own
        write_user_settings(self._settings, document)

    def _remember_own(self, name: object) -> None:
        models = read_object(self._folder / _OWN)
        own = name if isinstance(name, str) else None
        if models.get(str(self._settings)) != own:
            changed = {**models, str(self._settings): own}
            write_atomically(self._folder / _OWN, json.dumps(changed) + "\n")

    def _keep_choice(self, label: str, name: str) -> None:
        write_atomically(self._choice_file(label), name + "\n")

    def _choice_file(self, label: str) -> Path:
        return self._folder / f"{label}.model"


def _can_lock(fd: int) -> bool:
    """Return True if no other process has a lock on *fd*."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
