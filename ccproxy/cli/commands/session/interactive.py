"""`ccproxy interactive`: the words of `cli/session/interactive_words.py` at a prompt."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator

import click

from ccproxy.cli.render.terminal import say
from ccproxy.cli.selection import choose_one, complete_label, open_fleet
from ccproxy.cli.session.interactive_words import WORDS, Desk
from ccproxy.cli.verb import Options, Verb
from ccproxy.config.fleet import Fleet


@click.command(
    cls=Verb,
    examples=[
        "ccproxy interactive",
        "ccproxy interactive kimi",
        "printf 'config\\ntest\\n' | ccproxy interactive kimi",
    ],
)
@click.argument("label", required=False, shell_complete=complete_label)
@click.pass_context
def interactive(ctx: click.Context, label: str | None) -> None:
    """
    Look after the proxy LABEL at a prompt; `help` lists the words.

    Without a terminal the words are read from stdin, one line each; the exit code is then 1 if one
    of them failed. No file of a shell's is ever edited.
    """
    options: Options = ctx.ensure_object(Options)
    fleet = open_fleet(options)
    entry = choose_one(fleet, label) if label else fleet.entries[0]
    desk = Desk(fleet=fleet, entry=entry, run=_runner(ctx, options, fleet))
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        say(options, "`help` lists the words, `quit` leaves.")
    failed = False
    for line in _lines(desk) if is_terminal else sys.stdin:
        failed = not desk.say(line) or failed
        if desk.is_over:
            break
    raise SystemExit(1 if failed and not is_terminal else 0)


def _runner(ctx: click.Context, options: Options, fleet: Fleet) -> Callable[..., int]:
    """Return what runs another verb of ours, as if it had been typed."""
    group = ctx.find_root().command

    def run(*words: str) -> int:
        common = ["--config", str(fleet.file), *(["--no-color"] if options.no_color else [])]
        try:
            group.main([*common, *words])
        except SystemExit as done:
            return done.code if isinstance(done.code, int) else 1
        return 0

    return run


def _lines(desk: Desk) -> Iterator[str]:
    """Ask for lines until the user has had enough; Ctrl-C only gives up the line."""
    ask: Callable[[str], str] = _asker(desk)
    while True:
        try:
            yield ask(f"{desk.entry.label}> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _asker(desk: Desk) -> Callable[[str], str]:
    """Return a prompt: with completion and history where prompt_toolkit is there."""
    try:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import NestedCompleter
        from prompt_toolkit.history import FileHistory
    except ImportError:
        return input
    labels = dict.fromkeys(entry.label for entry in desk.fleet.entries)
    below = {
        "providers": labels,
        "toggle": {"on": None, "off": None},
        "record": {"on": None, "off": None},
    }
    words = {word: below.get(word) for word in WORDS}
    session: PromptSession[str] = PromptSession(
        completer=NestedCompleter.from_nested_dict(words), history=FileHistory(_history(desk.fleet))
    )
    return session.prompt


def _history(fleet: Fleet) -> str:
    """Return the file of the lines that were typed; they hold words, labels and names."""
    fleet.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = fleet.state / "interactive.history"
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(path, flags, 0o600))
    return str(path)
