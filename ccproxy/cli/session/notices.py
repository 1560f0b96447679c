"""Warnings and notes that `run` and `env` print before a session starts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ccproxy.cli.command import Options
from ccproxy.cli.render.terminal import notify, short_path
from ccproxy.cli.session.claude_environment import (
    ACTIVE,
    OWN_KEY,
    Session,
    find_limits,
    is_foreign_model,
    window_note,
)
from ccproxy.cli.session.claude_settings import SettingsFile, find_conflicts, saved_model
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.routing.entry_references import FleetModels
from ccproxy.store.overrides import overrides_path, read_overrides
from ccproxy.text import printable


def is_bypassed(fleet: Fleet, entry: Entry) -> bool:
    """Return True if *entry* is bypassed, whether it is running or not."""
    return read_overrides(overrides_path(fleet.state, entry.label)).is_bypassed


def warn_about_proxy(
    options: Options,
    config: WorkerConfig,
    fleet_models: FleetModels[WorkerConfig],
    *,
    bypassed: bool,
) -> None:
    """Warn if the proxy is bypassed, or note that its model's context window is unknown."""
    if bypassed:
        _warn_about_bypass(options, config, os.environ)
    elif note := window_note(config, fleet_models=fleet_models):
        notify(options, f"note: {printable(note)}")


def note_windows(
    options: Options,
    config: WorkerConfig,
    fleet_models: FleetModels[WorkerConfig],
    *,
    is_shared: bool,
) -> None:
    """
    Note which context window is used if the models of the tiers have different ones.

    *is_shared*: one setting applies to all models, as in a shell.
    """
    limits = find_limits(config, fleet_models=fleet_models)
    if limits.is_claude or len(set(limits.windows.values())) < 2:
        return
    windows = ", ".join(f"{printable(name)} {size:,}" for name, size in limits.windows.items())
    text = f"note: context windows in tokens: {windows}"
    if is_shared:
        text += "; a shell can only use the smallest for all of them"
        text += f"\n  fix: to use each model's own: ccproxy run {config.label} -- claude"
    notify(options, text)


def warn_about_conflicts(options: Options, session: Session, files: Sequence[SettingsFile]) -> None:
    """Warn about each variable of *session* that a settings file of Claude Code overrides."""
    for conflict in find_conflicts(session, files):
        alternative = f", or use: ccproxy run {session[ACTIVE]} -- claude"
        fix = "remove it there" + ("" if conflict.is_managed else alternative)
        text = f"{short_path(conflict.file)} sets {conflict.variable} and overrides the shell"
        notify(options, f"warning: {text}\n  fix: {fix}")


def warn_about_saved_model(
    options: Options, config: WorkerConfig, files: Sequence[SettingsFile], model: str | None
) -> None:
    """Warn that Claude Code saved a model of another provider; *model* is used instead."""
    saved = saved_model(files)
    if saved is None or not is_foreign_model(config, saved[0]):
        return
    name, file = saved
    text = f'{short_path(file.path)} saves the model "{printable(name)}" of another provider'
    if file.is_managed:
        notify(options, f"warning: {text}\n  fix: ask the administrator to remove it")
        return
    instead = f"{printable(model)} is used instead" if model else "it is not used"
    notify(options, f'warning: {text}; {instead}\n  fix: remove "model" there')


def _warn_about_bypass(options: Options, config: WorkerConfig, environ: Mapping[str, str]) -> None:
    label, url = config.label, printable(config.transparent_url)
    text = f"warning: {label} is bypassed: requests go to {url} with your own key"
    fix = f"ccproxy toggle {label} on"
    if environ.get(OWN_KEY):
        notify(options, f"{text}, {OWN_KEY}\n  fix: to use {label} again: {fix}")
    else:
        notify(options, f"{text}, but {OWN_KEY} is not set\n  fix: export {OWN_KEY}=…, or: {fix}")
