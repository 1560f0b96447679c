"""
The `ccproxy` command.

Finds the command to run, prints expected errors as sentences, and exits with their exit code.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from ccproxy import __version__
from ccproxy.cli.command import ALIASES, Options, commands, common_options, group_title
from ccproxy.cli.exit_codes import exit_code_of
from ccproxy.cli.render.error_text import error_text
from ccproxy.cli.render.terminal import print_error, wants_color
from ccproxy.cli.suggestions import suggestion
from ccproxy.errors import CcproxyError, UsageError
from ccproxy.text import printable

DAILY = ("run", "status", "start", "stop", "restart", "reload", "logs")
"""The commands listed first in the main help."""
GROUPS = ("fleet", "session", "inspect", "setup", "service")


class CcproxyGroup(click.Group):
    """Loads commands on demand and prints errors. No other class prints them."""

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        **extra: Any,  # noqa: ANN401 - click's signature
    ) -> NoReturn:
        """Run *args*, by default the command line's arguments, and exit."""
        options = Options()
        extra = {"prog_name": "ccproxy", "obj": options, **extra, "standalone_mode": False}
        try:
            code = super().main(args, **extra)
        except (CcproxyError, click.ClickException, click.Abort, OSError) as error:
            if options.debug:
                raise
            sys.exit(_report(error, options))
        sys.exit(code if isinstance(code, int) else 0)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the commands."""
        return list(commands())

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        name: str,
    ) -> click.Command | None:
        """Import the command *name*, or return None if there is none."""
        file = commands().get(ALIASES.get(name, name))
        return None if file is None else file.load()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that *args* begin with; raise UsageError if it does not exist."""
        name = args[0]
        if name not in commands() and name not in ALIASES and not name.startswith("-"):
            raise UsageError(f'"{name}" is not a command{suggestion(name)}')
        return super().resolve_command(ctx, args)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """List the commands by group, without importing them."""
        every = commands()
        sections = {"Daily use": [name for name in DAILY if name in every]}
        for group in dict.fromkeys([*GROUPS, *(file.group for file in every.values())]):
            names = [name for name, file in every.items() if file.group == group]
            sections[group_title(group)] = [name for name in names if name not in DAILY]
        # One width for all groups, so that the descriptions are aligned.
        width = max(map(len, every))
        for title, names in sections.items():
            if names:
                with formatter.section(title):
                    rows = [(f"{name:<{width}}", every[name].summary()) for name in names]
                    formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command without importing any."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=file.summary())
            for name, file in commands().items()
            if name.startswith(incomplete)
        ]


@click.command(
    name="ccproxy",
    cls=CcproxyGroup,
    invoke_without_command=True,
    params=common_options(hidden=False),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="First: ccproxy init, then: ccproxy run LABEL -- claude",
)
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Use Claude Code with any model provider, through one small proxy per provider."""
    ctx.color = wants_color(os.environ, no_color=ctx.ensure_object(Options).no_color)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Run the command line."""
    _open_closed_streams()
    sys.excepthook = _report_internal_error
    if os.environ.get("_CCPROXY_COMPLETE", "").startswith("pwsh"):
        # Add PowerShell to the shells that click supports.
        importlib.import_module("ccproxy.cli.commands.setup.completion")
    cli.main()


def _open_closed_streams() -> None:
    """
    Open /dev/null in place of each standard stream that the caller has closed.

    Otherwise the next file to be opened would get the stream's descriptor, and with it the output
    of this process and its children.
    """
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            os.set_inheritable(fd, True)
            setattr(sys, name, os.fdopen(fd, mode))


def _report(error: Exception, options: Options) -> int:
    """Print *error* and return the exit code."""
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        # The reader of our output has exited. Redirect stdout: it is flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    # click's context, which holds the color setting, no longer exists here.
    text = error_text(error, verbose=options.verbose)
    print_error(text, color=wants_color(os.environ, no_color=options.no_color))
    return exit_code_of(error)


def _report_internal_error(
    kind: type[BaseException], error: BaseException, _: TracebackType | None
) -> None:
    """Print a sentence for an unexpected error; --debug prints the traceback instead."""
    if "--debug" in sys.argv:
        sys.__excepthook__(kind, error, error.__traceback__)
        return
    print_error(
        f"Error: internal error in ccproxy: {kind.__name__}: {printable(str(error))}\n"
        "  fix: run the command again with --debug and report the output"
    )
