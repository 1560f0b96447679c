"""Add the providers from another tool's configuration."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ccproxy.cli.command import Options, command
from ccproxy.cli.render.command_lines import callable_here
from ccproxy.cli.render.terminal import short_path, show
from ccproxy.cli.setup.config_edit import (
    append,
    check_new,
    entry_text,
    exclusive,
    free_ports,
    without_secrets,
    write_new,
)
from ccproxy.config.fleet import Entry, Fleet
from ccproxy.config.locations import place_for_config
from ccproxy.errors import UsageError
from ccproxy.files import expand_home
from ccproxy.text import counted, printable, printable_lines

if TYPE_CHECKING:
    from ccproxy.cli.importers.builder import Imported, ImportedProxy


@command(
    "ccproxy import ~/.claude-code-router/config.json",
    "ccproxy import ~/.cc-switch/cc-switch.db --write",
    "ccproxy import litellm/config.yaml",
    "ccproxy import claude-code-proxy/.env",
    name="import",
)
@click.argument(
    "file", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option("--write", is_flag=True, help="Write the files without asking.")
def import_(options: Options, file: Path | None, *, write: bool) -> None:
    """
    Convert another tool's configuration in FILE to entries and env files.

    Shows what would be written, with keys masked, and what could not be converted and why. Then
    asks for confirmation; without a terminal, nothing is written. Existing files and entries are
    never overwritten. Keys that FILE names as environment variables are read from the environment.

    \b
    FILE is one of these, recognized by its content:
      claude-code-router   config.json or config.sqlite
      cc-switch            cc-switch.db, its export (.sql), or the config.json of early versions
      LiteLLM              config.yaml
      claude-code-proxy    .env of any proxy of that name
      models.yaml          a list of models, or a mapping from model ids to the other fields:
        - model_id: deepseek-chat                   # required
          api_base: https://api.deepseek.com/v1     # required
          api_key_name: DEEPSEEK_API_KEY            # or api_key: sk-…
          model_name: deepseek-chat                 # at the provider; default: model_id
          max_tokens: 8k                            # longest answer
          max_input_tokens: 128k                    # context window
          reasoning_effort: high
          extra_headers: {X-Team: blue}
          extra_body: {top_k: 40}
          direct: false                             # true: a Messages API, no conversion
    """  # noqa: D301 - \b makes click keep the lines
    # Reads presets: too slow to load for --help.
    from ccproxy.cli.importers.source import import_file
    from ccproxy.cli.setup.new_proxy import open_or_create

    if file is None:
        raise _no_file()
    fleet = open_or_create(place_for_config(options.config))
    imported = import_file(file, fleet, os.environ)
    new = [proxy for proxy in imported.proxies if not _exists(fleet, proxy)]
    if not new:
        _show_left_out(imported)
        if not imported.proxies:
            show(f"No provider was found in {short_path(file)}.")
        return
    check_new([_env_file(fleet, proxy) for proxy in new])
    change = _Change(fleet, imported, new)
    change.show()
    _show_left_out(imported)
    if not (write or _is_confirmed(file)):
        return
    change.write()
    written = f"Wrote {counted(len(new), 'env file')} and {short_path(change.table)}."
    show(callable_here(f"{written}  Next:  ccproxy check"))


class _Change:
    """The new env files and the text to append to the table."""

    def __init__(self, fleet: Fleet, imported: Imported, new: Sequence[ImportedProxy]) -> None:
        from ccproxy.cli.setup.new_proxy import table_to_extend

        self.table = table_to_extend(fleet)
        self._fleet = fleet
        self._files = {_env_file(fleet, proxy): proxy.env_text(imported.tool) for proxy in new}
        self._notes = {_env_file(fleet, proxy): _key_note(proxy) for proxy in new}
        routes = imported.routes if len(new) == len(imported.proxies) else ""
        self._entries = "\n".join(filter(None, (_entries(fleet, new), routes)))

    def show(self) -> None:
        """Print the text that would be written, with keys masked."""
        for path, text in self._files.items():
            show(click.style(short_path(path), bold=True))
            show(without_secrets(text) + self._notes[path])
        show(click.style(f"at the end of {short_path(self.table)}", bold=True))
        show(printable_lines(self._entries))

    def write(self) -> None:
        """Write all env files and entries, or none of them."""
        written = []
        with exclusive(self._fleet.home):
            try:
                for path, text in self._files.items():
                    write_new(path, text)
                    written.append(path)
                if self.table.exists():
                    append(self._fleet, self.table, self._entries)
                else:
                    write_new(self.table, self._entries)
            except BaseException:
                for path in written:
                    path.unlink()
                raise


def _no_file() -> UsageError:
    from ccproxy.cli.importers.source import KNOWN_FILES

    existing_files = [name for name in KNOWN_FILES if expand_home(name).is_file()]
    names = [f"ccproxy import {name}" for name in existing_files] or ["ccproxy import FILE"]
    return UsageError(f"no file to import\n  fix: {', or '.join(names)}")


def _is_confirmed(file: Path) -> bool:
    if sys.stdin.isatty():
        return click.confirm("Write this?", default=False, err=True)
    show(callable_here(f"Nothing was written.  Next:  ccproxy import {short_path(file)} --write"))
    return False


def _env_file(fleet: Fleet, proxy: ImportedProxy) -> Path:
    from ccproxy.cli.setup.new_proxy import env_name

    return fleet.home / env_name(proxy.label)


def _exists(fleet: Fleet, proxy: ImportedProxy) -> bool:
    """If an entry has the same provider and model, report it and return True."""
    identity = _identity(proxy.settings)
    for entry in fleet.entries:
        if _identity(_values_of(entry)) == identity:
            show(f"{printable(proxy.name)} already exists as {entry.label}")
            return True
    return False


def _identity(values: Mapping[str, str]) -> tuple[str, ...]:
    names = ("PROVIDER", "PROVIDER_REGION", "PROVIDER_PLAN", "PROVIDER_BASE_URL", "BIG_MODEL")
    return tuple(values.get(name, "") for name in names)


def _values_of(entry: Entry) -> Mapping[str, str]:
    from ccproxy.config import settings
    from ccproxy.config.reader import read_file

    env = read_file(entry.env_file, entry=entry)
    read = {one.name: env.value(one) for one in settings.SETTINGS}
    return {name: value.text.strip() for name, value in read.items() if value is not None}


def _key_note(proxy: ImportedProxy) -> str:
    if not proxy.lacks_key:
        return ""
    cause = f"${printable(proxy.key_name)} is not set" if proxy.key_name else "no key was found"
    return f"\n  ! {cause}: add the key to the file\n"


def _show_left_out(imported: Imported) -> None:
    if not imported.left_out:
        return
    show(click.style("not imported", bold=True))
    for one in imported.left_out:
        show(f"  {one.what}: {one.reason}")
    show("")


def _entries(fleet: Fleet, new: Sequence[ImportedProxy]) -> str:
    """Return the entries for *new*, with free ports."""
    labels = {proxy.label for proxy in new}
    ports = free_ports({entry.port for entry in fleet.entries})
    return "\n".join(
        entry_text(
            port,
            str(_env_file(fleet, proxy).relative_to(fleet.home)),
            proxy.label,
            [label for label in proxy.fallbacks if label in labels],
        )
        for proxy, port in zip(new, ports, strict=False)
    )
