"""Diagnose problems and suggest fixes."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ccproxy import __version__
from ccproxy.cli.command import Command, Options
from ccproxy.cli.render.command_lines import callable_here
from ccproxy.cli.render.terminal import notify, show
from ccproxy.text import printable

if TYPE_CHECKING:
    from ccproxy.cli.doctor.finding import Check, Finding, Scene

Found = list[tuple["Check", "Finding"]]
_SIGNS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


@click.command(
    cls=Command,
    examples=[
        "ccproxy doctor",
        "ccproxy doctor --fix      # permissions, folders, stale records, old logs",
        "ccproxy doctor --online   # also asks every provider with its key",
        "ccproxy doctor --report   # to be shown to others: holds no secret",
    ],
)
@click.option("--fix", is_flag=True, help="Mend what can be mended without harm.")
@click.option("--online", is_flag=True, help="Also ask each provider: one tiny request.")
@click.option("--offline", is_flag=True, help="Connect to nobody.")
@click.option("--report", is_flag=True, help="Everything, as text for a bug report.")
@click.option("--json", "as_json", is_flag=True, help="As JSON (schema 1).")
@click.pass_obj
def doctor(
    options: Options, *, fix: bool, online: bool, offline: bool, report: bool, as_json: bool
) -> None:
    """
    Look for everything that is known to go wrong; each trouble comes with what mends it.

    Shows what is not well, with -v also what is. Exits with 1 if something fails.
    """
    from ccproxy.cli.doctor.finding import Level

    scene = _look(options, online=online, offline=offline)
    found = list(_examined(scene))
    if fix and _mend(options, found):
        scene = _look(options, online=online, offline=offline)
        found = list(_examined(scene))
    redact = _redactor(scene)
    if as_json:
        show(redact(json.dumps(_as_json(found), indent=2)))
    elif report:
        show(redact(_report(scene, found)))
    else:
        _print(found, redact, verbose=options.verbose)
    failed = any(finding.level is Level.FAIL for _, finding in found)
    raise SystemExit(1 if failed else 0)


def _look(options: Options, *, online: bool, offline: bool) -> Scene:
    """Read all that checks look at; nothing here fails, it is all found."""
    from ccproxy.cli.doctor.finding import Scene
    from ccproxy.config.fleet_check import check_fleet
    from ccproxy.config.locations import find_config
    from ccproxy.errors import ConfigError
    from ccproxy.supervisor.control.client import fleet_status

    environ, here = dict(os.environ), Path.cwd()
    try:
        file = find_config(options.config)
    except ConfigError as error:
        return Scene(
            environ=environ, here=here, file=None, fleet=None, workers={},
            mistakes=error.mistakes, status=None, asks_providers=not offline,
        )  # fmt: skip
    checked = check_fleet(file)
    return Scene(
        environ=environ,
        here=here,
        file=file,
        fleet=checked.fleet,
        workers=checked.workers,
        mistakes=checked.mistakes,
        status=fleet_status(checked.fleet),
        asks_providers=not offline,
        asks_keys=online and not offline,
    )


def _examined(scene: Scene) -> Iterator[tuple[Check, Finding]]:
    from ccproxy.cli.doctor.checks import CHECKS

    for check in CHECKS:
        for finding in check.run(scene):
            yield check, finding


def _mend(options: Options, found: Found) -> bool:
    """Call what mends; return whether there was anything."""
    mended = False
    for _, finding in found:
        if finding.mend is None:
            continue
        try:
            finding.mend()
        except OSError as error:
            notify(options, f"not mended: {finding.text}: {error.strerror}")
        else:
            mended = True
            notify(options, f"mended: {printable(finding.text)}  ({printable(finding.fix)})")
    return mended


def _redactor(scene: Scene) -> Callable[[str], str]:
    """Findings hold no secret; should one ever get in, it does not get out."""
    from ccproxy.config.secrets import secrets_of
    from ccproxy.redaction import Redactor

    secrets = [secret for config in scene.workers.values() for secret in secrets_of(config)]
    return Redactor(secrets)


# Showing.


def _print(found: Found, redact: Callable[[str], str], *, verbose: bool) -> None:
    counts = _counts(found)
    for check, finding in found:
        if finding.level == "ok" and not verbose:
            continue
        sign, color = _SIGNS[finding.level]
        text = redact(printable(finding.text))
        show(f"{click.style(sign, fg=color)} {finding.level:<4}  {check.name}: {text}")
        if finding.fix:
            show(callable_here(f"        fix: {redact(printable(finding.fix))}"))
    show(f"{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} failed.")
    if any(finding.mend for _, finding in found):
        show(callable_here("Some of it can be mended at once:  ccproxy doctor --fix"))


def _report(scene: Scene, found: Found) -> str:
    names = {str(Path.home()): "~"}
    rows = scene.status.proxies if scene.status else ()
    lines = [
        f"ccproxy {__version__}, Python {platform.python_version()}, {platform.platform()}",
        *(
            f"{finding.level:<4}  {check.name}: {printable(finding.text)}"
            for check, finding in found
        ),
        *(f"      {row.label}: {row.state}, keys {dict(row.keys or {})}" for row in rows),
    ]
    return _replaced("\n".join(lines), names)


def _replaced(text: str, names: Mapping[str, str]) -> str:
    for name, short in names.items():
        text = text.replace(name, short) if len(name) > 1 else text
    return text


def _as_json(found: Found) -> dict[str, object]:
    checks = [
        {"name": check.name, "level": finding.level.value, "text": finding.text, "fix": finding.fix}
        for check, finding in found
    ]
    return {"schema": 1, **_counts(found), "checks": checks}


def _counts(found: Found) -> dict[str, int]:
    return {level: sum(one.level == level for _, one in found) for level in _SIGNS}
