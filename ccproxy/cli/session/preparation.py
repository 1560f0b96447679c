"""Prepares a session for `run` and `env`: reads its settings and prints the warnings."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from ccproxy.cli.command import Options
from ccproxy.cli.fleet_models import fleet_models
from ccproxy.cli.render.terminal import notify, short_path
from ccproxy.cli.session.claude_environment import (
    ALIASES,
    MODEL,
    OWN_KEY,
    Limits,
    Session,
    find_limits,
    is_foreign_model,
    session,
    window_note,
)
from ccproxy.cli.session.claude_settings import (
    SettingsFile,
    effective_environment,
    find_conflicts,
    read_settings_files,
    saved_model,
)
from ccproxy.cli.session.fleet_picker import NO_PICKER, FleetPicker, fleet_picker
from ccproxy.cli.single_proxy import require_env_file
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.config.worker_config import WorkerConfig, load_worker
from ccproxy.routing.entry_references import FleetModels
from ccproxy.routing.tiers import TIERS as TIER_NAMES
from ccproxy.routing.tiers import without_mark
from ccproxy.store.overrides import overrides_path, read_overrides
from ccproxy.text import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPlan:
    """Everything that is known about a session before it starts."""

    entry: Entry
    config: WorkerConfig
    fleet_models: FleetModels[WorkerConfig]
    session: Session
    limits: Limits
    files: tuple[SettingsFile, ...]
    bypassed: bool
    picker: FleetPicker = NO_PICKER

    def environ(self) -> dict[str, str]:
        """Return the environment of a program in this session."""
        session = self.session
        environ = {name: value for name, value in os.environ.items() if name not in session}
        return environ | {name: value for name, value in session.items() if value is not None}

    def warn_about_proxy(self, options: Options) -> None:
        """Warn if the proxy is bypassed, or note that its model's context window is unknown."""
        label = self.entry.label
        if self.bypassed:
            url = printable(self.config.transparent_url)
            text = f"warning: {label} is bypassed: requests go to {url} with your own key"
            fix = f"ccproxy toggle {label} on"
            if os.environ.get(OWN_KEY):
                notify(options, f"{text}, {OWN_KEY}\n  fix: to use {label} again: {fix}")
            else:
                text = f"{text}, but {OWN_KEY} is not set"
                notify(options, f"{text}\n  fix: export {OWN_KEY}=…, or: {fix}")
        elif note := window_note(self.config, fleet_models=self.fleet_models):
            notify(options, f"note: {printable(note)}")

    def warn(self, options: Options, *, is_claude: bool) -> None:
        """
        Print the warnings and notes about the session.

        *is_claude* means that the session starts Claude Code itself, with overriding --settings.
        """
        self.warn_about_proxy(options)
        if not self.bypassed:
            self._note_windows(options, is_shared=not is_claude)
        self._warn_about_saved_model(options)
        if not is_claude:
            self._warn_about_conflicts(options)

    def _note_windows(self, options: Options, *, is_shared: bool) -> None:
        """
        Print a note about the context window used if the tiers' models have different ones.

        *is_shared* means that one setting applies to all models, as in a shell.
        """
        if self.limits.is_claude or len(set(self.limits.windows.values())) < 2:
            return
        windows = (f"{printable(name)} {size:,}" for name, size in self.limits.windows.items())
        text = f"note: context windows in tokens: {', '.join(windows)}"
        if is_shared:
            text += "; a shell can only use the smallest for all of them"
            text += f"\n  fix: to use each model's own: ccproxy run {self.entry.label} -- claude"
        notify(options, text)

    def _warn_about_saved_model(self, options: Options) -> None:
        """Warn if Claude Code has saved a model of another provider, which is not used."""
        saved = saved_model(self.files)
        if saved is None or not is_foreign_model(self.config, saved[0]):
            return
        name, file = saved
        text = f'{short_path(file.path)} saves the model "{printable(name)}" of another provider'
        if file.is_managed:
            notify(options, f"warning: {text}\n  fix: ask the administrator to remove it")
            return
        model = self.session[MODEL]
        instead = f"{printable(model)} is used instead" if model else "it is not used"
        notify(options, f'warning: {text}; {instead}\n  fix: remove "model" there')

    def _warn_about_conflicts(self, options: Options) -> None:
        """Warn about each variable that a settings file of Claude Code overrides."""
        for file, variable in find_conflicts(self.session, self.files):
            alternative = f", or use: ccproxy run {self.entry.label} -- claude"
            fix = "remove it there" + ("" if file.is_managed else alternative)
            text = f"{short_path(file.path)} sets {variable} and overrides the shell"
            notify(options, f"warning: {text}\n  fix: {fix}")


def plan_session(fleet: Fleet, entry: Entry) -> SessionPlan:
    """
    Plan a session on *entry* in this process's environment and folder.

    Raises:
        ConfigError: If the settings of *entry* have mistakes.
        UsageError: If *entry* has no env file.
    """
    require_env_file(entry)
    config = load_worker(entry.env_file, entry=entry)
    models = fleet_models(fleet)
    files = read_settings_files(os.environ, Path.cwd())
    saved = saved_model(files)
    bypassed = _is_bypassed(fleet, entry)
    variables = session(
        config,
        os.environ,
        fleet_models=models,
        is_bypassed=bypassed,
        saved_model=saved[0] if saved else None,
        network_environ=effective_environment(os.environ, files),
    )
    return SessionPlan(
        entry=entry,
        config=config,
        fleet_models=models,
        session=variables,
        limits=find_limits(config, fleet_models=models),
        files=files,
        bypassed=bypassed,
    )


def plan_claude_session(
    fleet: Fleet, entry: Entry, *, choice: str, running: Collection[str]
) -> SessionPlan:
    """
    Plan a session of Claude Code itself, whose model picker lists the models of the fleet.

    *choice* is the model of the last session on *entry*; empty if there was none. *running* lists
    the labels of the running proxies. Raises the same errors as `plan_session`.
    """
    plan = plan_session(fleet, entry)
    if plan.bypassed:
        return plan
    others = [
        other.label
        for other in fleet.entries
        if other.label != entry.label and not _is_bypassed(fleet, other)
    ]
    picker = fleet_picker(plan.fleet_models, entry.label, others, running=running)
    model = _first_model(plan, picker, choice)
    return replace(plan, picker=picker, session={**plan.session, MODEL: model})


def _is_bypassed(fleet: Fleet, entry: Entry) -> bool:
    """Return True if *entry* is bypassed, whether it is running or not."""
    return read_overrides(overrides_path(fleet.state, entry.label)).is_bypassed


def _first_model(plan: SessionPlan, picker: FleetPicker, choice: str) -> str | None:
    """
    Return the model of a new session; None leaves it to Claude Code.

    A model in the project's settings takes precedence over the user's last choice, which takes
    precedence over the model in the user's own settings. A model of another entry is used only if
    it was chosen in a session on this one.
    """
    saved = saved_model(plan.files)
    own = _own_name(plan.config, picker, saved[0]) if saved is not None else None
    chosen = picker.find(choice)
    names = [chosen, own] if saved is None or saved[1].is_user else [own, chosen]
    return next(filter(None, names), None) or picker.find(f"{plan.entry.label}:big")


def _own_name(config: WorkerConfig, picker: FleetPicker, saved: str) -> str | None:
    """Return the name in *picker* of a *saved* alias or model of this entry, if any."""
    label, name = config.label, without_mark(saved)
    if tier := ALIASES.get(name):
        return picker.find(f"{label}:{tier}")
    head, _, tail = name.rpartition(":")
    if head.lower() == label.lower():
        name = tail
    tiers = (tier for tier in TIER_NAMES if config.models.tier(tier) == name)
    return picker.find(f"{label}:{next(tiers, name)}")
