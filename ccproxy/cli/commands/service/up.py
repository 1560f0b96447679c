"""Run the fleet or a single proxy in the foreground."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click

from ccproxy.cli.command import Command, Options
from ccproxy.cli.logs.log_files import Log, LogLine
from ccproxy.cli.logs.log_lines import echoing, line_text
from ccproxy.cli.render.outcome import report
from ccproxy.cli.render.terminal import print_error, short_path
from ccproxy.cli.selection import choose, complete_label, open_fleet
from ccproxy.config.fleet import LABEL, Entry
from ccproxy.errors import Busy, CcproxyError, PortInUse, UsageError
from ccproxy.logs import log_path
from ccproxy.text import printable


class Up(Command):
    """Its help also lists the settings, since a proxy can be run by them alone."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, then the settings."""
        from ccproxy.config.settings import SETTINGS

        super().format_epilog(ctx, formatter)
        rows = [
            (
                setting.name,
                f"{setting.meaning}" + f"  [{setting.default_text}]" * bool(setting.default_text),
            )
            for setting in SETTINGS
        ]
        with formatter.section("Settings, in the env file or the environment"):
            formatter.write_dl(rows)


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
@click.pass_context
def up(
    ctx: click.Context,
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
    options = ctx.ensure_object(Options)
    if env_file is None and port is None:
        if host or label or home:
            raise UsageError("--host, --label and --home are for one proxy\n  fix: add --port")
        raise SystemExit(_run_fleet(options, labels, as_json=as_json))
    if labels:
        raise UsageError("labels name entries of the table; --env and --port go without it")
    if env_file is not None and host is not None:
        raise UsageError(f"--host goes without --env\n  fix: set HOST={host} in {env_file}")
    environ = {**os.environ, **({} if host is None else {"HOST": host})}
    one = _one(env_file, port, label, environ)
    is_colored = sys.stderr.isatty() if ctx.color is None else ctx.color
    style = "json" if as_json else "color" if is_colored else "text"
    _become_worker(one, home or _state_home(environ), style=style, quiet=options.quiet)


# The fleet...


def _run_fleet(options: Options, labels: tuple[str, ...], *, as_json: bool) -> int:
    from ccproxy.supervisor.control.client import fleet_status
    from ccproxy.supervisor.foreground import run_foreground  # asyncio and more

    fleet = open_fleet(options)
    entries = choose(fleet, labels)
    if supervisor := fleet_status(fleet).supervisor:
        text = f"busy: the fleet is up already (supervisor pid {supervisor.pid})"
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
            on_started=lambda reply: report(reply.proxies, seconds=time.monotonic() - begun),
        )
    return 0 if is_up else 1


# ...and a single proxy.


@dataclass(frozen=True, slots=True, kw_only=True)
class _One:
    """The one proxy that is to run."""

    entry: Entry
    """What a table would say of it."""
    host: str
    environ: Mapping[str, str]


def _one(
    env_file: Path | None, port: int | None, label: str | None, environ: Mapping[str, str]
) -> _One:
    """
    Return the proxy to run, after a look at its settings.

    Raises:
        ConfigError: With every mistake in the settings; a missing file is one.
        UsageError: If there is no port, or the label is none.

    """
    # Reads presets and conversion settings: too slow to load for --help and completion.
    from ccproxy.config.settings import is_setting
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
    known = load_worker(env_file if env_file is None else file, entry=entry, environ=environ)
    if env_file is not None:  # then no other key is the worker's business
        environ = {name: value for name, value in environ.items() if not is_setting(name)}
    return _One(entry=entry, host=known.host, environ=environ)


def _state_home(environ: Mapping[str, str]) -> Path:
    state = environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "ccproxy"


def _become_worker(one: _One, home: Path, *, style: str, quiet: bool) -> NoReturn:
    """
    Turn into the worker: nobody stands between it and whoever started us.

    Raises:
        PortInUse: If another program has the port.
        CcproxyError: If the address cannot be had for another reason.

    """
    home = home.absolute()
    path = log_path(home / "logs", one.entry.label)
    listener = _listen(one.host, one.entry.port)
    for folder in (home, path.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    arguments = {
        "--home": home,
        "--label": one.entry.label,
        "--port": one.entry.port,
        "--env-file": "-" if one.entry.env_file == Path() else one.entry.env_file,
        "--listen-fd": listener,
        "--echo": style,
    }
    if not quiet:
        ready = f"{one.entry.label} is ready on port {one.entry.port}; logs in {short_path(path)}"
        arguments["--greeting"] = ready
    command = [sys.executable, "-P", "-m", "ccproxy.worker"]
    for name, value in arguments.items():
        command.append(f"{name}={value}")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, one.environ)  # noqa: S606 - our own program


def _listen(host: str, port: int) -> int:
    """Return a descriptor that listens there, and outlives an exec."""
    from ccproxy.supervisor.fleet.plan import Port
    from ccproxy.supervisor.sockets.listeners import Listeners  # rarely needed, and costs time

    listeners = Listeners(clock=time.monotonic)
    trouble = listeners.bind((host, port))
    if trouble is not None and trouble.port is Port.FOREIGN:
        raise PortInUse(f"{trouble.reason}\n  fix: end that program, or choose another --port")
    if trouble is not None:
        raise CcproxyError(trouble.reason)
    listener = os.dup(listeners.fileno((host, port)))
    os.set_inheritable(listener, True)
    return listener


# Logs, while they are written.


def _log(path: Path, label: str) -> Log:
    """Return the log at *path* from its present end on."""
    present = ((path, path.stat().st_size),) if path.is_file() else ()
    return Log(source=label, path=path, parts=present)


def _echo(line: LogLine, *, many: bool, as_json: bool) -> None:
    print_error(printable(line.text) if as_json else line_text(line, with_label=many))
