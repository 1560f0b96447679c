"""`ccproxy up`: in the foreground, for containers, services and a quick try."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import click

from ccproxy.cli.choose import choose, complete_label, open_fleet
from ccproxy.cli.logfiles import Line, Log
from ccproxy.cli.logtext import echoing, for_people
from ccproxy.cli.outcome import report
from ccproxy.cli.terminal import clean, complain, near, say
from ccproxy.cli.verb import Options, Verb
from ccproxy.config.fleet import LABEL, Entry
from ccproxy.errors import Busy, PortInUse, UsageError
from ccproxy.logs import log_path


class Up(Verb):
    """Its help also lists the settings, since a proxy can be run by them alone."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, then the settings."""
        from ccproxy.config.settings import SETTINGS

        super().format_epilog(ctx, formatter)
        rows = [
            (setting.name, f"{setting.meaning}" + f"  [{setting.default}]" * bool(setting.default))
            for setting in SETTINGS
        ]
        with formatter.section("Settings, in the env file or the environment"):
            formatter.write_dl(rows)


FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command(
    cls=Up,
    examples=[
        "ccproxy up",
        "ccproxy up --env envs/kimi.env --port 8081",
        "PROVIDER=kimi PROVIDER_API_KEY=sk-… ccproxy up --port 8081",
    ],
)
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@click.option(
    "--env",
    "env_file",
    type=click.Path(path_type=Path),
    help="Run one proxy with this env file, without a table.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="Run one proxy on this port.")
@click.option("--host", help="The address of the one proxy; with --env it is HOST in the file.")
@click.option("--label", help="The name of the one proxy.  [default: from env file or provider]")
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="Where the one proxy keeps its logs.  [default: $XDG_STATE_HOME/ccproxy]",
)
@click.option("--json", "as_json", is_flag=True, help="Show the logs as they are written.")
@click.pass_obj
def up(
    options: Options,
    labels: tuple[str, ...],
    *,
    env_file: Path | None,
    port: int | None,
    host: str | None,
    label: str | None,
    home: Path | None,
    as_json: bool,
) -> None:
    """
    Run the fleet in the foreground and show its logs; Ctrl-C lets running requests finish.

    With --port or --env, run one proxy without ccproxy.toml: its settings come from the env file,
    or without --env from the process environment.
    """
    if env_file is None and port is None:
        if host or label or home:
            raise UsageError("--host, --label and --home are for one proxy\n  fix: add --port")
        raise SystemExit(_run_fleet(options, labels, as_json=as_json))
    if labels:
        raise UsageError("labels name entries of the table; --env and --port go without it")
    if env_file is not None and host is not None:
        raise UsageError(f"--host goes without --env\n  fix: set HOST={host} in {env_file}")
    environ = {**os.environ, **({} if host is None else {"HOST": host})}
    entry = _entry(env_file, port, label, environ)
    raise SystemExit(_run_one(options, entry, home or _state_home(environ), environ, as_json))


# The fleet...


def _run_fleet(options: Options, labels: tuple[str, ...], *, as_json: bool) -> int:
    from ccproxy.supervisor.client import fleet_status
    from ccproxy.supervisor.foreground import run_foreground  # asyncio and more

    fleet = open_fleet(options)
    entries = choose(fleet, labels)
    if supervisor := fleet_status(fleet).supervisor:
        text = f"busy: the fleet is up already (supervisor pid {supervisor['pid']})"
        raise Busy(f"{text}\n  fix: follow it with ccproxy logs -f, or end it with ccproxy stop")
    logs = [
        _log(log_path(fleet.logs, entry.label, index), entry.label)
        for entry in entries
        for index in range(1, entry.workers + 1)
    ]

    begun = time.monotonic()
    with echoing(logs, lambda line: _echo(line, many=len(entries) > 1, as_json=as_json)):
        is_up = run_foreground(
            fleet,
            labels=[entry.label for entry in entries] if labels else (),
            on_started=lambda outcome: report(outcome.rows, seconds=time.monotonic() - begun),
        )
    return 0 if is_up else 1


# ...and a single proxy.


def _entry(
    env_file: Path | None, port: int | None, label: str | None, environ: Mapping[str, str]
) -> Entry:
    """
    Return the entry that a table would hold, after a look at its settings.

    Raises:
        ConfigError: With every mistake in the settings; a missing file is one.
        UsageError: If there is no port, or the label is none.

    """
    # Reads presets and conversion settings: too slow to load for --help and completion.
    from ccproxy.config.worker import load_worker

    if port is None:
        port = load_worker(env_file, environ=environ).port
        if not port:
            raise UsageError("on which port?\n  fix: add --port 8081, or PORT=8081 to the env file")
    if label is None:
        name = env_file.stem if env_file is not None else environ.get("PROVIDER", "")
        label = re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip("._-")[:32] or "proxy"
    if not LABEL.fullmatch(label):
        raise UsageError(f'"{label}" cannot be a label: letters, digits, dots, dashes, at most 32')
    file = Path() if env_file is None else env_file.resolve()
    entry = Entry(port=port, env_file=file, label=label)
    load_worker(env_file if env_file is None else file, entry=entry, environ=environ)
    return entry


def _state_home(environ: Mapping[str, str]) -> Path:
    state = environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "ccproxy"


def _run_one(
    options: Options, entry: Entry, home: Path, environ: Mapping[str, str], as_json: bool
) -> int:
    home = home.absolute()
    path = log_path(home / "logs", entry.label)
    for folder in (home, path.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    told, ready = os.pipe()
    command = [sys.executable, "-P", "-m", "ccproxy.worker", "--home", str(home)]
    command += ["--label", entry.label, "--port", str(entry.port), "--ready-fd", str(ready)]
    command += ["--env-file", "-" if entry.env_file == Path() else str(entry.env_file)]
    with echoing([_log(path, entry.label)], lambda line: _echo(line, many=False, as_json=as_json)):
        # In a session of its own, so that Ctrl-C reaches it once: from us.
        child = subprocess.Popen(  # noqa: S603 - our own program
            command, env=environ, pass_fds=(ready,), start_new_session=True
        )
        os.close(ready)
        _forward_signals(child)
        message = _message(told)
        if message.get("ready"):
            say(options, f"{entry.label} is ready on port {entry.port}; logs in {near(path)}")
        code = child.wait()
    if message.get("errno") == errno.EADDRINUSE:
        raise _taken(entry.port)
    if "error" in message:
        complain(f"error: {clean(str(message['error']))}")
    return code if code >= 0 else 128 - code


def _message(told: int) -> dict[str, Any]:
    """Wait for the worker to tell that it is ready or why it is not; empty if it died before."""
    with os.fdopen(told, "rb") as pipe:
        line = pipe.readline()
    with suppress(ValueError):
        return dict(json.loads(line))
    return {}


def _taken(port: int) -> PortInUse:
    from ccproxy.supervisor.listeners import name_holder_of  # rarely needed, and costs time

    return PortInUse(f"{name_holder_of(port)}\n  fix: end that program, or choose another --port")


def _forward_signals(child: subprocess.Popen[bytes]) -> None:
    """Let every signal that would end us end the worker instead; we follow it."""

    def forward(_number: int, _frame: FrameType | None) -> None:
        child.send_signal(signal.SIGTERM)  # drains; a second one stops at once

    for number in FORWARDED:
        signal.signal(number, forward)


# Logs, while they are written.


def _log(path: Path, label: str) -> Log:
    """Return the log at *path* from its present end on."""
    present = ((path, path.stat().st_size),) if path.is_file() else ()
    return Log(source=label, path=path, parts=present)


def _echo(line: Line, *, many: bool, as_json: bool) -> None:
    complain(clean(line.text) if as_json else for_people(line, many=many))
