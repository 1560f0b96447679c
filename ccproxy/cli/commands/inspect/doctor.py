"""Diagnose problems and suggest fixes."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from ccproxy import __version__
from ccproxy.cli.command import Options, command
from ccproxy.cli.render.command_lines import callable_here
from ccproxy.cli.render.terminal import notify, show
from ccproxy.errors import UsageError
from ccproxy.files import home_folder
from ccproxy.text import counted, printable

if TYPE_CHECKING:
    from ccproxy.cli.doctor.examination import CheckedFinding
    from ccproxy.cli.doctor.finding import Scene

_MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


@command(
    "ccproxy doctor",
    "ccproxy doctor --fix      # permissions, folders, stale records, old logs",
    "ccproxy doctor --online   # also test every provider's keys",
    "ccproxy doctor --report   # without secrets, safe to share",
)
@click.option("--fix", is_flag=True, help="Apply the safe fixes.")
@click.option("--online", is_flag=True, help="Send one small request to each provider.")
@click.option("--offline", is_flag=True, help="Do not connect to providers.")
@click.option("--report", is_flag=True, help="Print everything as text for a bug report.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (schema 1).")
def doctor(
    options: Options, *, fix: bool, online: bool, offline: bool, report: bool, as_json: bool
) -> None:
    """
    Check the machine, the configuration, the fleet and this shell, and suggest fixes.

    Shows only problems; -v shows every check. Exits with 1 if a check fails.
    """
    if online and offline:
        raise UsageError("--online and --offline cannot be combined\n  fix: use one of them")
    # Reads presets: too slow to load for --help.
    from ccproxy.cli.doctor.examination import as_json_of, examine, redactor, results_of

    scene = examine(options.config, online=online, offline=offline)
    results = list(results_of(scene))
    if fix and _repair(options, results):
        scene = examine(options.config, online=online, offline=offline)
        results = list(results_of(scene))
    redact = redactor(scene)
    if as_json:
        show(redact(json.dumps(as_json_of(results), indent=2)))
    elif report:
        show(redact(_report(scene, results)))
    else:
        _print(results, redact, verbose=options.verbose)
    raise SystemExit(1 if any(finding.level == "fail" for _, finding in results) else 0)


def _repair(options: Options, results: Sequence[CheckedFinding]) -> bool:
    """Apply the safe fixes; return True if any was applied."""
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


# Output.


def _print(
    results: Sequence[CheckedFinding], redact: Callable[[str], str], *, verbose: bool
) -> None:
    from ccproxy.cli.doctor.examination import counts_of

    for check, finding in results:
        if finding.level == "ok" and not verbose:
            continue
        mark, color = _MARKS[finding.level]
        text = redact(printable(finding.text))
        show(f"{click.style(mark, fg=color)} {finding.level:<4}  {check}: {text}")
        if finding.fix:
            show(callable_here(f"        fix: {redact(printable(finding.fix))}"))
    successes, warnings, failures = counts_of(results).values()
    show(f"{successes} passed, {counted(warnings, 'warning')}, {failures} failed")
    if any(finding.repair for _, finding in results):
        show(callable_here("To apply the safe fixes:  ccproxy doctor --fix"))


def _report(scene: Scene, results: Sequence[CheckedFinding]) -> str:
    lines = [
        f"ccproxy {__version__}, Python {platform.python_version()}, {platform.platform()}",
        *(f"{finding.level:<4}  {check}: {printable(finding.text)}" for check, finding in results),
        *(f"      {row.label}: {row.state}, keys {dict(row.keys or {})}" for row in scene.rows),
    ]
    home = str(home_folder(os.environ))
    text = "\n".join(lines)
    return text.replace(home, "~") if len(home) > 1 else text
