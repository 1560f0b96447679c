"""Run the fleet or a single proxy in the foreground."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import click

from ccproxy.cli.command import Command, Options, command
from ccproxy.cli.logs.log_files import Log, LogLine
from ccproxy.cli.logs.log_lines import echoing, line_text
from ccproxy.cli.render.outcome import report
from ccproxy.cli.render.terminal import print_error
from ccproxy.cli.selection import choose, complete_label, open_fleet
from ccproxy.errors import Busy, UsageError
from ccproxy.log_rotation import log_path
from ccproxy.text import printable_json


class UpCommand(Command):
    """Lists the settings in its help, because a proxy can be run with settings alone."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, then the settings."""
        from ccproxy.config.settings import SETTINGS

        super().format_epilog(ctx, formatter)
        rows = [
            (
                setting.name,
                setting.meaning + f"  [{setting.default_text}]" * bool(setting.default_text),
            )
            for setting in SETTINGS
        ]
        with formatter.section("Settings, in the env file or the environment"):
            formatter.write_dl(rows)


@command(
    "ccproxy up",
    "ccproxy up --env envs/kimi.env --port 8081",
    "PROVIDER=kimi PROVIDER_API_KEY=sk-… ccproxy up --port 8081",
    cls=UpCommand,
)
@click.argument("labels", nargs=-1, metavar="[LABEL]...", shell_complete=complete_label)
@click.option(
    "--env",
    "env_file",
    type=click.Path(path_type=Path),
    help="Run one proxy with this env file, without ccproxy.toml.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="Run one proxy on this port.")
@click.option(
    "--host", help="The address that the proxy listens on; with --env, set HOST in the file."
)
@click.option("--label", help="The label of the proxy.  [default: from the env file or provider]")
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="The folder for the proxy's logs and state.  [default: $XDG_STATE_HOME/ccproxy]",
)
@click.option("--json", "as_json", is_flag=True, help="Show the logs as JSON lines.")
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
    Run the fleet in the foreground and show its logs. Ctrl-C lets running requests finish.

    With --port or --env, run one proxy without ccproxy.toml. Its settings come from the env file,
    or, without --env, from the environment.
    """
    if env_file is None and port is None:
        if host or label or home:
            raise UsageError(
                "--host, --label and --home apply only to a single proxy\n  fix: add --port"
            )
        raise SystemExit(_run_fleet(options, labels, as_json=as_json))
    if labels:
        raise UsageError("labels name entries of ccproxy.toml, which --env and --port do not use")
    if env_file is not None and host is not None:
        raise UsageError(f"--host cannot be used with --env\n  fix: set HOST={host} in {env_file}")
    from ccproxy.cli.single_proxy import become_worker, default_home, read_settings

    environ = {**os.environ, **({} if host is None else {"HOST": host})}
    proxy = read_settings(env_file, port, label, environ)
    color = click.get_current_context().color
    is_colored = sys.stderr.isatty() if color is None else color
    style = "json" if as_json else "color" if is_colored else "text"
    become_worker(proxy, home or default_home(environ), style=style, quiet=options.quiet)


def _run_fleet(options: Options, labels: tuple[str, ...], *, as_json: bool) -> int:
    from ccproxy.cli.single_proxy import require_table
    from ccproxy.supervisor.control.client import fleet_status
    from ccproxy.supervisor.foreground import run_foreground  # imports asyncio

    fleet = open_fleet(options)
    require_table(fleet)  # a supervisor would stop the proxies started with `ccproxy up --port`
    entries = choose(fleet, labels)
    if supervisor := fleet_status(fleet).supervisor:
        text = f"the fleet is already running (supervisor pid {supervisor.pid})"
        raise Busy(f"{text}\n  fix: to see its logs: ccproxy logs -f; to stop it: ccproxy stop")
    logs = [
        _log_from_now(log_path(fleet.logs, entry.label, index), entry.label)
        for entry in entries
        for index in range(1, entry.workers + 1)
    ]

    def show(line: LogLine) -> None:
        text = line_text(line, with_label=len(entries) > 1, verbose=options.verbose)
        print_error(printable_json(line.text) if as_json else text)

    begin = time.monotonic()
    with echoing(logs, show):
        is_up = run_foreground(
            fleet,
            labels=[entry.label for entry in entries] if labels else (),
            on_started=lambda reply: report(reply.proxies, seconds=time.monotonic() - begin),
        )
    return 0 if is_up else 1


def _log_from_now(path: Path, label: str) -> Log:
    """Return the log at *path*, starting at its current end."""
    parts = ((path, path.stat().st_size),) if path.is_file() else ()
    return Log(source=label, path=path, parts=parts)
