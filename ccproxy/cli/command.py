"""
Command discovery, and the options that all commands share.

A command is the file `commands/GROUP/NAME.py`. The first line of its docstring appears in the main
help, and it defines a function of the same name, decorated with `command`. Adding a file adds a
command. Listing the commands reads only file names and imports nothing, which keeps `--help` and
completion fast.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click

from ccproxy.text import parse_duration

FOLDER = Path(__file__).parent / "commands"
ALIASES = {"ps": "status", "ls": "status"}
_SUMMARY = re.compile(r'"""\s*(.+?)\s*(?:"""|\n)')


class FiniteRange(click.FloatRange):
    """A finite number in a range; `click.FloatRange` would also accept NaN."""

    def convert(
        self, value: float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; BadParameter if it is not in the range."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


@dataclass(frozen=True, slots=True)
class CommandFile:
    """The file that defines a command."""

    name: str
    group: str
    path: Path

    def summary(self) -> str:
        """Return the command's line in the main help, the first line of the file's docstring."""
        return _first_docstring_line(self.path)

    def load(self) -> click.Command:
        """Import the file and return its command."""
        module = importlib.import_module(f"{__package__}.commands.{self.group}.{self.path.stem}")
        command: click.Command = getattr(module, self.path.stem)
        return command


@cache
def commands() -> Mapping[str, CommandFile]:
    """Return all commands by name."""
    # `import_.py` is the command `import`, which cannot be the name of a Python module.
    return {
        (name := path.stem.rstrip("_").replace("_", "-")): CommandFile(name, path.parent.name, path)
        for path in sorted(FOLDER.glob("*/[a-z]*.py"))
    }


def group_title(group: str) -> str:
    """Return the heading of *group* in the help."""
    return _first_docstring_line(FOLDER / group / "__init__.py").rstrip(".")


def _first_docstring_line(path: Path) -> str:
    match = _SUMMARY.match(path.read_text(encoding="utf-8"))
    return match[1] if match else ""


@dataclass(slots=True)
class Options:
    """
    The options that every command accepts, filled in while click parses.

    `config` is the path as typed. `quiet` suppresses messages but not errors, `verbose` adds
    detail, `debug` shows tracebacks.
    """

    config: str | None = None
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    debug: bool = False


class Command(click.Command):
    """A command that accepts the common options and ends its help with examples."""

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - the arguments of click.Command
        examples: Sequence[str],
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        for param in self.params:
            _name_value(param)
        own_flags = {flag for param in self.params for flag in param.opts}
        self.params += [
            option for option in common_options(hidden=True) if not own_flags & set(option.opts)
        ]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        with formatter.section("Examples"):
            formatter.write("".join(f"  {example}\n" for example in self.examples))
        super().format_epilog(ctx, formatter)


def command(
    *examples: str,
    cls: type[Command] = Command,
    **attributes: Any,  # noqa: ANN401 - as in click.Command
) -> Callable[[Callable[..., None]], Command]:
    """
    Return the decorator that makes a function a command; its help ends with *examples*.

    The function receives the `Options`, then its own parameters.
    """
    make = click.command(cls=cls, examples=examples, **attributes)
    return lambda function: make(click.pass_obj(function))


def _name_value(param: click.Parameter) -> None:
    """Set the metavar of an option without one: N for a number, NAME for the string of --name."""
    if not isinstance(param, click.Option) or param.metavar is not None or param.is_flag:
        return
    if isinstance(param.type, click.types.IntParamType | click.types.FloatParamType):
        param.metavar = "N"
    elif isinstance(param.type, click.types.StringParamType):
        param.metavar = max(param.opts, key=len).lstrip("-").replace("-", "_").upper()


class Duration(click.ParamType[float]):
    """A duration such as `10m`, as seconds, of at most *days* days."""

    name = "duration"

    def __init__(self, *, days: int = 3650) -> None:
        self._days = days

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return *value* in seconds."""
        try:
            seconds = parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds > self._days * 86400:
            self.fail(f'must be at most {self._days}d, got "{value}"', param, ctx)
        return seconds


DURATION = Duration()
WAIT = Duration(days=100)
"""How long a command waits for the supervisor, which accepts at most 100 days."""

# Options that several commands share, with the same meaning and default.
drain_option = click.option(
    "--drain",
    type=WAIT,
    default="30s",
    show_default=True,
    help="How long to wait for running requests to finish.",
)
timeout_option = click.option(
    "--timeout",
    type=WAIT,
    default="15s",
    show_default=True,
    help="How long to wait for the new workers.",
)

_FLAGS = (
    ("quiet", ["-q", "--quiet"], "Print results and errors only."),
    ("verbose", ["-v", "--verbose"], "Show more detail."),
    ("no_color", ["--no-color"], "Disable colors, as $NO_COLOR does."),
    ("debug", ["--debug"], "Show tracebacks."),
)


def common_options(*, hidden: bool) -> list[click.Parameter]:
    """Return the options that every command accepts; only the main help shows them."""
    config = click.Option(
        ["-c", "--config"],
        metavar="FILE",
        help="The table.  [default: $CCPROXY_CONFIG or ccproxy.toml]",
        expose_value=False,
        hidden=hidden,
        callback=_store("config"),
    )
    flags = [
        click.Option(
            names, is_flag=True, help=text, expose_value=False, hidden=hidden, callback=_store(name)
        )
        for name, names, text in _FLAGS
    ]
    return [config, *flags]


def _store(name: str) -> Callable[[click.Context, click.Parameter, object], None]:
    def store(ctx: click.Context, _param: click.Parameter, value: object) -> None:
        # An option before the command applies even if it is not repeated after the command.
        if value:
            setattr(ctx.ensure_object(Options), name, value)
            if name == "no_color":
                ctx.color = False

    return store
