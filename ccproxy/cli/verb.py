"""What every verb has: the options that may stand before or behind it, and examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click


@dataclass(slots=True)
class Options:
    """
    The options that mean the same to every verb; filled in while click parses.

    `config` is the path that was typed, `quiet` silences talk (never errors), `verbose` adds
    detail, `debug` shows tracebacks.
    """

    config: str | None = None
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    debug: bool = False


class Verb(click.Command):
    """A verb: takes the common options too, and its help ends with examples."""

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - whatever a command of click takes
        examples: Sequence[str],
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        taken = {flag for param in self.params for flag in param.opts}
        self.params += [
            option for option in common_options(hidden=True) if not taken & set(option.opts)
        ]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        with formatter.section("Examples"):
            formatter.write("".join(f"  {example}\n" for example in self.examples))
        super().format_epilog(ctx, formatter)


def common_options(*, hidden: bool) -> list[click.Parameter]:
    """Return the options that every verb takes; they are shown in the help of the group only."""
    return [
        click.Option(
            ["-c", "--config"],
            metavar="FILE",
            help="The table. Default: $CCPROXY_CONFIG, else the first ccproxy.toml: here, above, "
            "in the user's config folder, beside the virtual environment.",
            expose_value=False,
            hidden=hidden,
            callback=_store("config"),
        ),
        *(
            click.Option(
                flags,
                is_flag=True,
                help=text,
                expose_value=False,
                hidden=hidden,
                callback=_store(name),
            )
            for name, flags, text in (
                ("quiet", ["-q", "--quiet"], "Say nothing but results and errors."),
                ("verbose", ["-v", "--verbose"], "Show more."),
                ("no_color", ["--no-color"], "No colours; $NO_COLOR does the same."),
                ("debug", ["--debug"], "Show tracebacks."),
            )
        ),
    ]


def _store(name: str) -> Callable[[click.Context, click.Parameter, object], None]:
    def store(ctx: click.Context, _param: click.Parameter, value: object) -> None:
        if value:  # what stands before the verb is not undone by its absence behind it
            setattr(ctx.ensure_object(Options), name, value)
            if name == "no_color":
                ctx.color = False

    return store
