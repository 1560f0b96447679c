"""Diagnose problems and suggest fixes."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from ccproxy import __version__
from ccproxy.cli.command import Command, Options
from ccproxy.cli.render.command_lines import callable_here
from ccproxy.cli.render.terminal import notify, show
from ccproxy.text import counted, printable

if TYPE_CHECKING:
    from ccproxy.cli.doctor.finding import Finding, Scene

Redact = Callable[[str], str]
_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


class _Result(NamedTuple):
    """A finding and the name of its check."""

    check: str
    finding: Finding


@click.command(
    cls=Command,
    examples=[
        "ccproxy doctor",
        "ccproxy doctor --fix      # permissions, folders, stale records, old logs",
        "ccproxy doctor --online   # also tests the keys of every provider",
        "ccproxy doctor --report   # without secrets, safe to share",
    ],
)
@click.option("--fix", is_flag=True, help="Apply the safe fixes.")
@click.option("--online", is_flag=True, help="Send one small request to each provider.")
@click.option("--offline", is_flag=True, help="Do not connect to providers.")
@click.option("--report", is_flag=True, help="Print everything as text for a bug report.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (schema 1).")
@click.pass_obj
def doctor(
    options: Options, *, fix: bool, online: bool, offline: bool, report: bool, as_json: bool
) -> None:
    """
    Check the machine, the configuration, the fleet and this shell, and suggest fixes.

    Shows the problems; -v shows every check. Exits with 1 if a check fails.
    """
    from ccproxy.cli.doctor.finding import Level

    scene = _examine(options, online=online, offline=offline)
    results = list(_results(scene))
    if fix and _repair(options, results):
        scene = _examine(options, online=online, offline=offline)
        results = list(_results(scene))
    redact = _redactor(scene)
    if as_json:
        show(redact(json.dumps(_as_json(results), indent=2)))
    elif report:
        show(redact(_report(scene, results)))
    else:
        _print(results, redact, verbose=options.verbose)
    failed = any(result.finding.level is Level.FAIL for result in results)
    raise SystemExit(1 if failed else 0)


def _examine(options: Options, *, online: bool, offline: bool) -> Scene:
    """Collect the facts for the checks; problems in the user's files become findings."""
    from ccproxy.cli.doctor.finding import Scene
    from ccproxy.config.fleet_check import check_fleet
    from ccproxy.config.locations import find_config
    from ccproxy.errors import ConfigError
    from ccproxy.supervisor.control.client import fleet_status

    environ, cwd = dict(os.environ), Path.cwd()
    try:
        file = find_config(options.config)
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


def _results(scene: Scene) -> Iterator[_Result]:
    from ccproxy.cli.doctor.checks import CHECKS

    for check in CHECKS:
        for finding in check.run(scene):
            yield _Result(check.name, finding)


def _repair(options: Options, results: Sequence[_Result]) -> bool:
    """Apply the safe fixes; return True if there was one."""
    repaired = False
    for _, finding in results:
        if finding.repair is None:
            continue
        try:
            finding.repair()
        except OSError as error:
            notify(options, f"not fixed: {printable(finding.text)}: {error.strerror}")
        else:
            repaired = True
            notify(options, f"fixed: {printable(finding.text)}  ({printable(finding.fix)})")
    return repaired


def _redactor(scene: Scene) -> Redact:
    """Return a filter for the output, in case a secret gets into a finding."""
    from ccproxy.config.secrets import secrets_of
    from ccproxy.redaction import Redactor

    secrets = [secret for config in scene.workers.values() for secret in secrets_of(config)]
    return Redactor(secrets)


# Output.


def _print(results: Sequence[_Result], redact: Redact, *, verbose: bool) -> None:
    for check, finding in results:
        if finding.level == "ok" and not verbose:
            continue
        mark, color = _MARKS[finding.level]
        text = redact(printable(finding.text))
        show(f"{click.style(mark, fg=color)} {finding.level:<4}  {check}: {text}")
        if finding.fix:
            show(callable_here(f"        fix: {redact(printable(finding.fix))}"))
    counts = _counts(results)
    passed, warnings, failed = counts["ok"], counts["warn"], counts["fail"]
    show(f"{passed} passed, {counted(warnings, 'warning')}, {failed} failed")
    if any(finding.repair for _, finding in results):
        show(callable_here("To apply the safe fixes:  ccproxy doctor --fix"))


def _report(scene: Scene, results: Sequence[_Result]) -> str:
    rows = scene.status.proxies if scene.status else ()
    lines = [
        f"ccproxy {__version__}, Python {platform.python_version()}, {platform.platform()}",
        *(f"{finding.level:<4}  {check}: {printable(finding.text)}" for check, finding in results),
        *(f"      {row.label}: {row.state}, keys {dict(row.keys or {})}" for row in rows),
    ]
    home = str(Path.home())
    text = "\n".join(lines)
    return text.replace(home, "~") if len(home) > 1 else text


def _as_json(results: Sequence[_Result]) -> dict[str, object]:
    checks = [
        {"name": check, "level": finding.level.value, "text": finding.text, "fix": finding.fix}
        for check, finding in results
    ]
    return {"schema": 1, **_counts(results), "checks": checks}


def _counts(results: Sequence[_Result]) -> dict[str, int]:
    return {level: sum(one.finding.level == level for one in results) for level in _MARKS}
