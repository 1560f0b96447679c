"""The run of all checks: the facts, the findings, and both as JSON without secrets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ccproxy.cli.doctor.finding import Finding, Scene

Redact = Callable[[str], str]
LEVELS_OF_FINDINGS = ("ok", "warn", "fail")


class CheckedFinding(NamedTuple):
    """A finding and the name of its check."""

    check: str
    finding: Finding


def examine(config: str | None, *, online: bool, offline: bool) -> Scene:
    """Collect the facts for the checks; problems in the user's files become findings."""
    from ccproxy.cli.doctor.finding import Scene
    from ccproxy.config.fleet_check import check_fleet
    from ccproxy.config.locations import find_config
    from ccproxy.errors import ConfigError
    from ccproxy.supervisor.control.client import fleet_status

    environ, cwd = dict(os.environ), Path.cwd()
    try:
        file = find_config(config)
    except ConfigError as error:
        return Scene(
            environ=environ, cwd=cwd, file=None, fleet=None, workers={},
            mistakes=error.mistakes, status=None, connects=not offline,
        )  # fmt: skip
    checked = check_fleet(file)
    status = fleet_status(checked.fleet)
    return Scene(
        environ=environ,
        cwd=cwd,
        file=file,
        fleet=checked.fleet,
        workers=checked.workers,
        mistakes=checked.mistakes,
        status=status,
        changed=[row.label for row in status.proxies if row.changed],
        connects=not offline,
        tests_keys=online and not offline,
    )


def results_of(scene: Scene) -> Iterator[CheckedFinding]:
    """Run every check on *scene*."""
    from ccproxy.cli.doctor.checks import CHECKS

    for check in CHECKS:
        for finding in check.run(scene):
            yield CheckedFinding(check.name, finding)


def redactor(scene: Scene) -> Redact:
    """Return a filter for the output, in case a secret gets into a finding."""
    from ccproxy.config.secrets import secrets_of
    from ccproxy.redaction import Redactor

    secrets = [secret for config in scene.workers.values() for secret in secrets_of(config)]
    return Redactor(secrets)


def as_json_of(results: Sequence[CheckedFinding]) -> dict[str, object]:
    """Return `doctor --json`."""
    checks = [
        {"name": check, "level": finding.level.value, "text": finding.text, "fix": finding.fix}
        for check, finding in results
    ]
    return {"schema": 1, **counts_of(results), "checks": checks}


def counts_of(results: Sequence[CheckedFinding]) -> dict[str, int]:
    """Return the number of findings of each level."""
    return {
        level: sum(one.finding.level == level for one in results) for level in LEVELS_OF_FINDINGS
    }
