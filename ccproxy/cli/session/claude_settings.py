"""
Claude Code's settings files: what they override, and the one that `run` passes.

`env` in a settings.json overrides the environment that Claude Code was started with, and `model`
selects the model of a new session. `--settings FILE` overrides the files of the user and the
project, but not the managed file of an administrator.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ccproxy.cli.session.claude_environment import (
    MAX_CONTEXT,
    MODEL,
    UNSET,
    Limits,
    Session,
    is_claude_name,
)
from ccproxy.errors import UsageError
from ccproxy.files import write_atomically

_SMALLEST_SETTING = 100_000
"""Tokens. Claude Code ignores a smaller autoCompactWindow (2.1.332)."""
_UNUSED_DAYS = 30
"""After that a file for other --settings is removed; it was written again at each use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsFile:
    """One settings file of Claude Code, as far as it matters to a session."""

    path: Path
    env: Mapping[str, str]
    model: str | None
    is_managed: bool
    """True for an administrator's file, which nothing overrides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A variable that *file* sets to a different value than the session does."""

    file: Path
    variable: str
    is_managed: bool


def read_settings_files(environ: Mapping[str, str], cwd: Path) -> tuple[SettingsFile, ...]:
    """Return the settings files that apply in the folder *cwd*, lowest precedence first."""
    files = []
    for path, is_managed in _paths(environ, cwd):
        document = _read(path)
        env = _mapping(document.get("env"))
        model = document.get("model")
        files.append(
            SettingsFile(
                path=path,
                env={name: str(value) for name, value in env.items()},
                model=model if isinstance(model, str) and model else None,
                is_managed=is_managed,
            )
        )
    return tuple(files)


def find_conflicts(session: Session, files: Sequence[SettingsFile]) -> tuple[Conflict, ...]:
    """Return the variables of *session* that *files* override."""
    return tuple(
        Conflict(file=file.path, variable=name, is_managed=file.is_managed)
        for file in files
        for name, value in file.env.items()
        if name in session and value != (session[name] or "")
    )


def saved_model(files: Sequence[SettingsFile]) -> tuple[str, SettingsFile] | None:
    """Return the model of a new session, and the file that sets it; None if none does."""
    return next(((file.model, file) for file in reversed(files) if file.model), None)


def effective_environment(
    environ: Mapping[str, str], files: Sequence[SettingsFile]
) -> dict[str, str]:
    """Return *environ* with the variables that the settings files override."""
    merged = dict(environ)
    for file in files:
        merged |= file.env
    return merged


# The file that `run` passes with --settings.


def session_settings(
    session: Session,
    limits: Limits,
    files: Sequence[SettingsFile],
    user_settings: Mapping[str, Any],
) -> dict[str, Any]:
    """
    Return the content of the --settings file of *session*.

    *user_settings* are those that the user passes; they take precedence, except for the variables
    of the session.
    """
    env = {name: value for name, value in session.items() if value is not None}
    # A settings file cannot unset a variable, only set it to an empty value.
    env |= dict.fromkeys((name for name in UNSET if session.get(name, "") is None), "")
    overridden = [conflict.variable for conflict in find_conflicts(session, files)]
    env |= {name: "" for name in overridden if session[name] is None}
    # `model` replaces ANTHROPIC_MODEL, with which Claude Code would comment each model switch.
    model = env.pop(MODEL, None)
    if model is not None:
        env[MODEL] = ""
    if limits.windows and not limits.is_claude:
        env[MAX_CONTEXT] = str(_largest_window(limits))
    settings: dict[str, Any] = {} if model is None else {"model": model}
    saved = saved_model(files)
    if model is None and saved is not None and not is_claude_name(saved[0]):
        settings["model"] = ""  # Claude Code's default model
    if windows := _compact_windows(session, limits):
        settings["modelSettings"] = windows
    own_env = {**_mapping(user_settings.get("env")), **env}
    return {**settings, **user_settings, "env": own_env}


def write_session_settings(folder: Path, label: str, settings: Mapping[str, Any], key: str) -> Path:
    """
    Write the --settings file of *label* and return its path, which stays valid.

    Claude Code repeats the path in its resume command and passes it to background sessions. So
    there is one file per label, and one more for each *key* that is not empty: the --settings of
    the user that are merged into it.

    Raises:
        OSError: If it cannot be written.

    """
    suffix = f"+{hashlib.sha256(key.encode()).hexdigest()[:12]}" if key else ""
    path = folder / f"{label}{suffix}.json"
    write_atomically(path, json.dumps(settings, indent=2) + "\n")
    _remove_unused(folder, label)
    return path


def split_settings_argument(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """
    Split the user's own --settings from Claude Code's *arguments*.

    Raises:
        UsageError: If they are not JSON, or the file cannot be read.

    """
    rest = list(arguments)
    for number, argument in enumerate(rest):
        if argument == "--":
            break
        if argument == "--settings" and number + 1 < len(rest):
            value = rest[number + 1]
            del rest[number : number + 2]
            return _parse_settings(value), rest
        if argument.startswith("--settings="):
            del rest[number]
            return _parse_settings(argument.removeprefix("--settings=")), rest
    return {}, rest


def _largest_window(limits: Limits) -> int:
    """Return the window for all models; `autoCompactWindow` lowers it for each model."""
    windows = limits.windows.values()
    return min(windows) if min(windows) < _SMALLEST_SETTING else max(windows)


def _compact_windows(session: Session, limits: Limits) -> dict[str, dict[str, int]]:
    """Return `modelSettings`, which gives each model its own context window."""
    if limits.is_claude or not limits.windows:
        return {}
    windows = dict(limits.windows)
    model = session.get(MODEL)
    if model and model not in windows:  # LABEL:tier, of which only the tier's window is known
        windows[model] = min(windows.values())
    return {
        name: {"autoCompactWindow": window}
        for name, window in windows.items()
        if window >= _SMALLEST_SETTING
    }


def _parse_settings(value: str) -> dict[str, Any]:
    """Parse the value of --settings: JSON, or the path of a JSON file."""
    is_json = value.lstrip().startswith("{")
    try:
        text = value if is_json else Path(value).read_text(encoding="utf-8")
        settings = json.loads(text)
    except OSError as error:
        raise UsageError(
            f"--settings {value}: {error.strerror}\n  fix: correct the path"
        ) from error
    except ValueError as error:
        raise UsageError(f"the value of --settings is not JSON: {error}") from error
    return dict(_mapping(settings))


def _remove_unused(folder: Path, label: str) -> None:
    oldest = time.time() - _UNUSED_DAYS * 86400
    for path in folder.glob(f"{label}+*.json"):
        with suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()


def _paths(environ: Mapping[str, str], cwd: Path) -> Iterator[tuple[Path, bool]]:
    home = Path(environ.get("HOME") or Path.home())
    user = Path(environ.get("CLAUDE_CONFIG_DIR") or home / ".claude")
    project = cwd / ".claude"
    yield user / "settings.json", False
    if project != user:
        yield project / "settings.json", False
    yield project / "settings.local.json", False
    is_mac = sys.platform == "darwin"
    system = Path("/Library/Application Support/ClaudeCode" if is_mac else "/etc/claude-code")
    yield system / "managed-settings.json", True


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return {}  # Claude Code reports an unreadable file itself


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
