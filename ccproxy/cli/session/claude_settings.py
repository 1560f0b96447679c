"""
Claude Code's settings files: the variables they override, and the file that `run` passes.

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
from typing import Any, NamedTuple

from ccproxy.cli.session.claude_environment import (
    DISABLE_1M,
    MAX_CONTEXT,
    MODEL,
    SMALLEST_COMPACTION,
    TIERS,
    UNSET,
    Limits,
    Session,
    is_claude_name,
)
from ccproxy.cli.session.fleet_picker import NO_PICKER, FleetPicker, picker_setting, valid_rows
from ccproxy.cli.session.status_setting import status_command, status_setting
from ccproxy.errors import UsageError
from ccproxy.files import home_folder, read_json, read_object, write_atomically

_UNUSED_DAYS = 30
"""A file for the user's own --settings is removed once it is this old; each use rewrites it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsFile:
    """The parts of one Claude Code settings file that matter to a session."""

    path: Path
    env: Mapping[str, str]
    model: str | None
    is_managed: bool
    """True for an administrator's file, which nothing overrides."""
    is_user: bool = False
    """True for the file in which Claude Code saves the user's choices."""
    picker_rows: tuple[Mapping[str, Any], ...] = ()
    """The valid rows of its `modelPicker`."""
    status_line: Mapping[str, Any] | None = None
    """Its `statusLine`, if that is a command."""


class Conflict(NamedTuple):
    """A variable that a settings file sets to a different value than the session does."""

    file: SettingsFile
    variable: str


def read_settings_files(environ: Mapping[str, str], cwd: Path) -> tuple[SettingsFile, ...]:
    """Return the settings files that apply in the folder *cwd*, lowest precedence first."""
    files = []
    for number, (path, is_managed) in enumerate(_paths(environ, cwd)):
        document = read_object(path)  # Claude Code reports an unreadable file itself
        env = _mapping(document.get("env"))
        model = document.get("model")
        files.append(
            SettingsFile(
                path=path,
                env={name: str(value) for name, value in env.items()},
                model=model if isinstance(model, str) and model else None,
                is_managed=is_managed,
                is_user=number == 0,
                picker_rows=tuple(valid_rows(document.get("modelPicker"))),
                status_line=status_command(document.get("statusLine")),
            )
        )
    return tuple(files)


def find_conflicts(session: Session, files: Sequence[SettingsFile]) -> tuple[Conflict, ...]:
    """Return the variables of *session* that *files* override."""
    return tuple(
        Conflict(file, name)
        for file in files
        for name, value in file.env.items()
        if name in session and value != (session[name] or "")
    )


def saved_model(files: Sequence[SettingsFile]) -> tuple[str, SettingsFile] | None:
    """Return the model of a new session and the file that sets it, or None."""
    return next(((file.model, file) for file in reversed(files) if file.model), None)


def effective_environment(
    environ: Mapping[str, str], files: Sequence[SettingsFile]
) -> dict[str, str]:
    """Return *environ* with the overrides from the settings files applied."""
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
    *,
    picker: FleetPicker = NO_PICKER,
    status_line: str = "",
) -> dict[str, Any]:
    """
    Return the content of the --settings file of *session*.

    *user_settings*, which the user passes, take precedence except for the session's variables.
    *picker* contains the fleet's models, and *status_line* is the command of our status line. The
    user's own picker rows and status line come before ours, because this file hides them.
    """
    env = {name: value for name, value in session.items() if value is not None}
    # A settings file cannot unset a variable, only set it to an empty value.
    env |= dict.fromkeys((name for name in UNSET if session.get(name, "") is None), "")
    overridden = [variable for _, variable in find_conflicts(session, files)]
    env |= {name: "" for name in overridden if session[name] is None}
    # Use `model`: with ANTHROPIC_MODEL, Claude Code comments on each model switch.
    model = env.pop(MODEL, None)
    if model is not None:
        env[MODEL] = ""
    env |= _tier_names(session, picker) | _window_variables(session, limits, picker)
    settings: dict[str, Any] = {} if model is None else {"model": model}
    saved = saved_model(files)
    if model is None and saved is not None and not is_claude_name(saved[0]):
        settings["model"] = ""  # Claude Code's default model
    if windows := _compact_windows(session, limits, picker):
        settings["modelSettings"] = windows
    settings |= user_settings
    if picker.rows:
        own_rows = valid_rows(user_settings.get("modelPicker")) or _user_rows(files)
        settings["modelPicker"] = picker_setting(picker, own_rows)
    if status_line:
        own_line = status_command(user_settings.get("statusLine")) or _user_line(files)
        settings["statusLine"] = status_setting(status_line, own_line)
    own_env = {**_mapping(user_settings.get("env")), **env}
    return {**_without_null(settings), "env": own_env}


def write_session_settings(folder: Path, label: str, settings: Mapping[str, Any], key: str) -> Path:
    """
    Write the --settings file of *label* and return its path, which stays valid.

    Claude Code repeats the path in its resume command and passes it to background sessions. So
    there is one file per label, and another for each non-empty *key*, the user's --settings that
    are merged into it.
    """
    suffix = f"+{hashlib.sha256(key.encode()).hexdigest()[:12]}" if key else ""
    path = folder / f"{label}{suffix}.json"
    write_atomically(path, json.dumps(settings, indent=2) + "\n")
    _remove_unused(folder, label)
    return path


def split_settings_argument(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """
    Separate the user's own --settings from Claude Code's *arguments*.

    Raises:
        UsageError: If the settings are not JSON, or their file cannot be read.
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


def _tier_names(session: Session, picker: FleetPicker) -> dict[str, str]:
    """Return the variables of Claude Code's aliases, with the models named as in the picker."""
    variables = {f"ANTHROPIC_DEFAULT_{alias}_MODEL": tier for alias, tier in TIERS.items()}
    return {
        name: f"{picker.label}:{tier}"
        for name, tier in variables.items()
        if picker.rows and session.get(name)
    }


def _window_variables(session: Session, limits: Limits, picker: FleetPicker) -> dict[str, str]:
    """
    Return the variables that set one window for all models unknown to Claude Code.

    `modelSettings` lowers that window per model; if a window is too small for `modelSettings`, it
    applies to all models.
    """
    own = list(limits.windows.values()) if not limits.is_claude else []
    windows = [*own, *(row.window for row in picker.rows if row.window)]
    if not windows:
        return {}
    is_small = bool(own) and min(own) < SMALLEST_COMPACTION
    variables = {MAX_CONTEXT: str(min(own) if is_small else max(windows))}
    if session.get(DISABLE_1M) and not is_small:
        variables[DISABLE_1M] = ""  # every model has its own window, so a notice would be wrong
    return variables


def _compact_windows(
    session: Session, limits: Limits, picker: FleetPicker
) -> dict[str, dict[str, int]]:
    """Return `modelSettings`, which gives each model its own context window."""
    windows = {} if limits.is_claude else dict(limits.windows)
    windows |= {row.name: row.window for row in picker.rows if row.window}
    model = session.get(MODEL)
    if model and windows and model not in windows:
        windows[model] = min(windows.values())
    windows |= limits.price_thresholds  # the windows of these models are built into Claude Code
    return {
        name: {"autoCompactWindow": window}
        for name, window in windows.items()
        if window >= SMALLEST_COMPACTION
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


def user_settings_file(environ: Mapping[str, str]) -> Path:
    """Return the file in which Claude Code saves the user's choices."""
    home = home_folder(environ)
    return Path(environ.get("CLAUDE_CONFIG_DIR") or home / ".claude") / "settings.json"


def read_user_settings(path: Path) -> dict[str, Any]:
    """
    Return the settings in *path* for editing; empty if there is no file.

    Raises:
        UsageError: If the file is not a JSON object; the file is not changed.
        OSError: If the file cannot be read.
    """
    try:
        document = read_json(path)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}\n  fix: correct it") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path} is not a JSON object\n  fix: correct it")
    return document


def write_user_settings(path: Path, document: Mapping[str, Any]) -> None:
    """Replace the user's settings in *path*, formatted as Claude Code writes it; keep the mode."""
    target = path.resolve()  # the file may be a symlink into a dotfiles repository
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    text = json.dumps(document, indent=2, ensure_ascii=False)
    try:
        write_atomically(target, text + "\n", mode=mode)
    except UnicodeEncodeError:  # a lone surrogate (half of an emoji), which has no UTF-8 encoding
        write_atomically(target, json.dumps(document, indent=2) + "\n", mode=mode)


def _paths(environ: Mapping[str, str], cwd: Path) -> Iterator[tuple[Path, bool]]:
    user = user_settings_file(environ)
    project = cwd / ".claude"
    yield user, False
    if project != user.parent:
        yield project / "settings.json", False
    yield project / "settings.local.json", False
    is_mac = sys.platform == "darwin"
    system = Path("/Library/Application Support/ClaudeCode" if is_mac else "/etc/claude-code")
    yield system / "managed-settings.json", True


def _user_rows(files: Sequence[SettingsFile]) -> tuple[Mapping[str, Any], ...]:
    """Return the picker rows that Claude Code would show; it ignores those of a project."""
    user_files = (file for file in reversed(files) if file.is_managed or file.is_user)
    return next((file.picker_rows for file in user_files if file.picker_rows), ())


def _user_line(files: Sequence[SettingsFile]) -> Mapping[str, Any] | None:
    """Return the status line that Claude Code would show."""
    return next((file.status_line for file in reversed(files) if file.status_line), None)


def _without_null(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return *settings* without null values, which make Claude Code ignore the whole file."""
    return {name: value for name, value in settings.items() if value is not None}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
