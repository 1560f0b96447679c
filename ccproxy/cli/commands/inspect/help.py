"""Show the help for a command, or the exit codes."""

from __future__ import annotations

import click

from ccproxy.cli.command import Options, command, commands
from ccproxy.cli.exit_codes import MEANINGS
from ccproxy.cli.render.terminal import show
from ccproxy.cli.suggestions import suggestion
from ccproxy.errors import UsageError

EXIT_CODES = "exit-codes"


def _complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in (*commands(), EXIT_CODES) if name.startswith(incomplete)]


@command("ccproxy help status", "ccproxy help exit-codes")
@click.argument("topic", required=False, shell_complete=_complete)
def help(_: Options, topic: str | None) -> None:  # noqa: A001 - the name of the command
    """Show the help for the command TOPIC, the exit codes, or the main help."""
    parent = click.get_current_context().parent
    assert parent is not None  # noqa: S101 - click runs every command below the group
    if topic == EXIT_CODES:
        show("\n".join(f"{code:>5}  {meaning}" for code, meaning in MEANINGS.items()))
        return
    if topic is None:
        show(parent.get_help())
        return
    group = parent.command
    command = group.get_command(parent, topic) if isinstance(group, click.Group) else None
    if command is None:
        raise UsageError(f'"{topic}" is not a command{suggestion(topic)}')
    with click.Context(command, info_name=topic, parent=parent) as context:
        show(command.get_help(context))
