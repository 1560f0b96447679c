"""Preparation of a session for `run` and `env`: reads its settings and prints the warnings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ccproxy.cli.command import Options
from ccproxy.cli.fleet_models import fleet_models
from ccproxy.cli.session.claude_environment import (
    MODEL,
    Limits,
    Session,
    find_limits,
    session,
)
from ccproxy.cli.session.claude_settings import (
    SettingsFile,
    effective_environment,
    read_settings_files,
    saved_model,
)
from ccproxy.cli.session.notices import (
    is_bypassed,
    note_windows,
    warn_about_conflicts,
    warn_about_proxy,
    warn_about_saved_model,
)
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.config.worker_config import WorkerConfig, load_worker
from ccproxy.routing.chains import FleetModels


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

    def environ(self) -> dict[str, str]:
        """Return the environment of a program that belongs to the session."""
        session = self.session
        environ = {name: value for name, value in os.environ.items() if name not in session}
        return environ | {name: value for name, value in session.items() if value is not None}

    def warn(self, options: Options, *, is_claude: bool) -> None:
        """
        Print the warnings and notes about the session.

        *is_claude*: the session starts Claude Code itself, with --settings that override its files.
        """
        warn_about_proxy(options, self.config, self.fleet_models, bypassed=self.bypassed)
        if not self.bypassed:
            note_windows(options, self.config, self.fleet_models, is_shared=not is_claude)
        warn_about_saved_model(options, self.config, self.files, self.session[MODEL])
        if not is_claude:
            warn_about_conflicts(options, self.session, self.files)


def plan_session(fleet: Fleet, entry: Entry) -> SessionPlan:
    """
    Plan a session on *entry*, started from this process's environment and folder.

    Raises:
        ConfigError: If the entry's env file has errors.

    """
    config = load_worker(entry.env_file, entry=entry)
    models = fleet_models(fleet)
    files = read_settings_files(os.environ, Path.cwd())
    saved = saved_model(files)
    bypassed = is_bypassed(fleet, entry)
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
