"""Run every check in the order of the output; return the findings as JSON without secrets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ccproxy.cli.doctor import (
    file_checks,
    fleet_checks,
    machine_checks,
    network_checks,
    shell_checks,
)
from ccproxy.cli.doctor.finding import Finding, Level, Scene, not_read
from ccproxy.config.fleet_check import check_fleet
from ccproxy.config.locations import find_config
from ccproxy.config.secrets import secrets_of
from ccproxy.errors import ConfigError
from ccproxy.redaction import Redactor
from ccproxy.supervisor.control.client import fleet_status

CHECKS: dict[str, Callable[[Scene], Iterator[Finding]]] = {
    "python": machine_checks.python,
    "package": machine_checks.installation,
    "user": machine_checks.user,
    "path": shell_checks.path,
    "system": machine_checks.wsl,
    "systemd": machine_checks.systemd,
    "open files": machine_checks.open_files,
    "memory": machine_checks.memory,
    "disk": machine_checks.disk,
    "clock": machine_checks.clock,
    "localhost": machine_checks.localhost,
    "configuration": file_checks.configuration,
    "env files": file_checks.env_files,
    "git": file_checks.version_control,
    "folders": file_checks.folders,
    "file modes": file_checks.file_modes,
    "records": file_checks.records,
    "logs": file_checks.log_size,
    "log times": file_checks.log_times,
    "supervisor": fleet_checks.supervisor,
    "workers": fleet_checks.workers,
    "changes": fleet_checks.changes,
    "keys": fleet_checks.keys,
    "models": fleet_checks.models,
    "ports": fleet_checks.ports,
    "reach": fleet_checks.reach,
    "control": fleet_checks.control,
    "service": fleet_checks.service,
    "crontab": fleet_checks.crontab,
    "http proxy": shell_checks.proxies,
    "credentials": shell_checks.credentials,
    "base url": shell_checks.base_url,
    "session": shell_checks.leftovers,
    "settings": shell_checks.settings,
    "claude": shell_checks.claude,
    "providers": network_checks.providers,
    "provider keys": network_checks.keys,
}


class CheckedFinding(NamedTuple):
    """A finding and the name of its check."""

    check: str
    finding: Finding


def examine(config: str | None, *, online: bool, offline: bool) -> Scene:
    """Collect the facts for the checks; problems in the user's files become findings."""
    environ, cwd = dict(os.environ), Path.cwd()
    try:
        file = find_config(config)
    except ConfigError as error:
        return Scene(environ=environ, cwd=cwd, mistakes=error.mistakes, connects=not offline)
    checked = check_fleet(file)
    status, status_error = None, None
    try:
        status = fleet_status(checked.fleet)
    except OSError as error:
        status_error = error
    return Scene(
        environ=environ,
        cwd=cwd,
        file=file,
        fleet=checked.fleet,
        workers=checked.workers,
        mistakes=checked.mistakes,
        status=status,
        status_error=status_error,
        connects=not offline,
        tests_keys=online and not offline,
    )


def results_of(scene: Scene) -> Iterator[CheckedFinding]:
    """Run every check on *scene*; a file that a check cannot read becomes a finding."""
    for name, check in CHECKS.items():
        try:
            for finding in check(scene):
                yield CheckedFinding(name, finding)
        except OSError as error:
            yield CheckedFinding(name, not_read(error))


def redactor(scene: Scene) -> Redactor:
    """Return a filter that removes secrets from the output, in case a finding contains one."""
    return Redactor(secret for config in scene.workers.values() for secret in secrets_of(config))


def as_json_of(results: Sequence[CheckedFinding]) -> dict[str, object]:
    """Return the output of `doctor --json`."""
    checks = [
        {"name": check, "level": finding.level.value, "text": finding.text, "fix": finding.fix}
        for check, finding in results
    ]
    return {"schema": 1, **counts_of(results), "checks": checks}


def counts_of(results: Sequence[CheckedFinding]) -> dict[str, int]:
    """Return the number of findings of each level."""
    counts = Counter(one.finding.level for one in results)
    return {level.value: counts[level] for level in Level}
