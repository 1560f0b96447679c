"""
The `ccproxy` command: the verbs, and our errors as sentences with an exit code.

A verb is imported when it is called for; its one line in `--help` stands here, so that the help
imports none of them.
"""

from __future__ import annotations

import errno
import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from keyword import iskeyword
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from ccproxy import __version__
from ccproxy.cli.render.terminal import clean, complain, near, wants_color
from ccproxy.cli.verb import Options, common_options
from ccproxy.cli.verbs import ALIASES, PACKAGES, VERBS
from ccproxy.errors import (
    Busy,
    CcproxyError,
    ConfigError,
    Mistake,
    NotReady,
    NotRunning,
    PortInUse,
    UsageError,
)

MEANINGS = {
    0: "all good",
    1: "failed or degraded",
    2: "wrong usage",
    3: "not running",
    4: "the provider refused the key",
    5: "port in use",
    6: "another ccproxy command is at work",
    7: "not ready in time",
    78: "wrong configuration",
    130: "interrupted",
}
EXIT_CODES: dict[type[Exception], int] = {
    CcproxyError: 1,
    UsageError: 2,
    NotRunning: 3,
    PortInUse: 5,
    Busy: 6,
    NotReady: 7,
    ConfigError: 78,
    click.Abort: 130,
}
"""What our errors end with; a failure without an entry of its own counts as its parent."""

_OWNER = "do it as the user who owns {place}, or in a folder of your own; ls -ld {place}"
_ROOM = "make room on that disk; df -h {place}"
_FIXES = {
    errno.EROFS: "move ccproxy.toml and envs/ to a folder that can be written: logs/, pids/ and "
    "state/ lie beside them",
    errno.EACCES: _OWNER,
    errno.EPERM: _OWNER,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
}
"""What to do where the system says no; it may be a file of the fleet's or any other."""


class CcproxyGroup(click.Group):
    """Finds the verbs, and shows errors as sentences. The only place that does."""

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        **extra: Any,  # noqa: ANN401 - click's signature
    ) -> NoReturn:
        """Run what *args* (default: the command line) say, and exit."""
        options = Options()
        extra = {"prog_name": "ccproxy", "obj": options, **extra, "standalone_mode": False}
        try:
            code = super().main(args, **extra)
        except (CcproxyError, click.ClickException, click.Abort, OSError) as error:
            if options.debug:
                raise
            sys.exit(_explain(error, options))
        sys.exit(code if isinstance(code, int) else 0)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the verbs in the order of the help."""
        return list(VERBS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        name: str,
    ) -> click.Command | None:
        """Import the verb, or return None for an unknown one."""
        verb = ALIASES.get(name, name)
        if verb not in VERBS:
            return None
        identifier = verb.replace("-", "_")
        if iskeyword(identifier):
            identifier += "_"
        command: click.Command = getattr(
            importlib.import_module(f"ccproxy.cli.commands.{PACKAGES[verb]}.{identifier}"),
            identifier,
        )
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb; a mistyped one is answered with the likeliest."""
        if args[0] not in VERBS and args[0] not in ALIASES and not args[0].startswith("-"):
            likely = get_close_matches(args[0].lower(), [*VERBS, *ALIASES], n=1, cutoff=0.6)
            fix = f"ccproxy {likely[0]}" if likely else "ccproxy --help"
            meant = f' (did you mean "{likely[0]}"?)' if likely else ""
            raise UsageError(f'"{args[0]}" is not a command{meant}\n  fix: {fix}')
        return super().resolve_command(ctx, args)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say what the exit codes mean, and where to begin."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in MEANINGS.items()])
        super().format_epilog(ctx, formatter)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the verb without importing any."""
        verbs = [
            CompletionItem(name, help=text)
            for name, text in VERBS.items()
            if name.startswith(incomplete)
        ]
        return verbs if not incomplete.startswith("-") else super().shell_complete(ctx, incomplete)


@click.command(
    name="ccproxy",
    cls=CcproxyGroup,
    invoke_without_command=True,
    params=common_options(hidden=False),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with: ccproxy init, then: ccproxy run LABEL -- claude",
)
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Claude Code on any model provider: a fleet of small proxies, one per provider."""
    ctx.color = wants_color(os.environ, no_color=ctx.ensure_object(Options).no_color)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Run the command line."""
    sys.excepthook = _last_words
    if os.environ.get("_CCPROXY_COMPLETE", "").startswith("pwsh"):
        importlib.import_module("ccproxy.cli.commands.setup.completion")  # teaches click PowerShell
    cli.main()


def _explain(error: Exception, options: Options) -> int:
    """Tell the user about *error* and return the exit code."""
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        # Whoever read our output has gone; so does the interpreter's flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    # The context, which knows about colours, has gone with the verb.
    color = wants_color(os.environ, no_color=options.no_color)
    complain(_sentence(error), color=color)
    if isinstance(error, click.ClickException):
        return error.exit_code
    return next((EXIT_CODES[kind] for kind in type(error).mro() if kind in EXIT_CODES), 1)


def _sentence(error: Exception) -> str:
    red = click.style("error:", fg="red", bold=True)
    match error:
        case ConfigError():
            return "\n".join(f"{red} {_mistake(mistake)}" for mistake in error.mistakes)
        case click.UsageError():
            path = error.ctx.command_path if error.ctx is not None else "ccproxy"
            text = _cleaned(error.format_message()).rstrip(".")
            return f"{red} {text[:1].lower()}{text[1:]}\n  fix: {path} --help"
        case click.ClickException():
            return f"{red} {_cleaned(error.format_message())}"
        case click.Abort():
            return "interrupted"
        case OSError(filename=str(name)):
            fix = _FIXES.get(error.errno or 0, "").format(place=shlex.quote(str(_there(name))))
            text = f"{clean(name)}: {error.strerror}"
            return f"{red} {text}" + (f"\n  fix: {clean(fix)}" if fix else "")
        case OSError(strerror=str(text)):
            return f"{red} {text}"
        case _:
            return f"{red} {_cleaned(str(error))}"


def _cleaned(text: str) -> str:
    """Return *text*, which may repeat whatever was typed or a file is called, in clean lines."""
    return "\n".join(map(clean, text.split("\n")))


def _there(name: str) -> Path:
    """Return *name* itself, or the folder in which it could not be made."""
    path = Path(name)
    return next((place for place in (path, *path.parents) if os.path.lexists(place)), path)


def _mistake(mistake: Mistake) -> str:
    where = near(mistake.file) + (f":{mistake.line}" if mistake.line is not None else "")
    text, *rest = (clean(line.strip()) for line in mistake.text.splitlines())
    if not any(line.startswith(where) for line in rest):
        rest.append(where)
    if mistake.fix:
        rest.append(f"fix: {_cleaned(mistake.fix)}")
    return "\n  ".join([text, *rest])


def _last_words(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    """Own up to a fault of ccproxy's in a sentence: a traceback is for those who ask for one."""
    if "--debug" in sys.argv:
        sys.__excepthook__(kind, error, error.__traceback__)
        return
    complain(
        f"error: ccproxy itself failed: {kind.__name__}: {clean(str(error))}\n"
        "  fix: run the command again with --debug and report what it prints"
    )
