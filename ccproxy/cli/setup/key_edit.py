"""Add and remove the provider's keys in an env file."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ccproxy.cli.command import Options
from ccproxy.cli.confirmation import confirm
from ccproxy.cli.render.terminal import notify, short_path, show
from ccproxy.cli.setup.config_edit import read_keys, read_text, write_keys
from ccproxy.cli.setup.questions import parse_keys, paste_keys
from ccproxy.config.env_text import keys_file_in, masked_key, secret_of
from ccproxy.config.fleet import Entry
from ccproxy.errors import UsageError
from ccproxy.text import counted, mask_key


def add_keys(options: Options, entry: Entry, arguments: Sequence[str]) -> None:
    """
    Add keys, pasted at a terminal or read from stdin, one per line.

    Raises:
        UsageError: If no valid key is entered, or a key is in *arguments*.
        CcproxyError: If the env file cannot be changed.
    """
    if arguments:
        text = "a key on the command line would be visible to other users"
        raise UsageError(
            f"{text}\n  fix: run ccproxy keys {entry.label} add, and paste the key there"
        )
    present = _present_keys(entry)
    entered = paste_keys() if sys.stdin.isatty() else parse_keys(sys.stdin, "stdin")
    present_secrets = set(map(secret_of, present))
    added = [key for key in dict.fromkeys(entered) if secret_of(key) not in present_secrets]
    repeated = len(entered) - len(added)
    if repeated:
        notify(options, f"Already in the file: {counted(repeated, 'key')}.")
    if not added:
        return
    write_keys(entry.env_file, (*present, *added))
    ids = [f"k{number}" for number in range(len(present) + 1, len(present) + len(added) + 1)]
    names = ", ".join(f"{name} {masked_key(key)}" for name, key in zip(ids, added, strict=True))
    show(f"Added {names} to {short_path(entry.env_file)}.")
    test = f"ccproxy keys {entry.label} test {' '.join(ids)}"
    notify(options, f"Next:  ccproxy reload && {test}")


def remove_keys(options: Options, entry: Entry, ids: Sequence[str], *, yes: bool) -> None:
    """
    Remove the keys with these *ids* (`k1` is the first) or tails (`…1234` or `1234`).

    Raises:
        UsageError: If an id matches no key or several keys, or if no key would remain.
        CcproxyError: If the env file cannot be changed.
    """
    present = _present_keys(entry)
    if not ids:
        raise UsageError(f"remove needs a key\n  fix: ccproxy keys {entry.label} remove k1")
    removed = [_find(present, name, entry) for name in ids]
    remaining = [key for key in present if key not in removed]
    if not remaining:
        text = f"this would leave {entry.label} without a key"
        raise UsageError(
            f"{text}\n  fix: run ccproxy keys {entry.label} add first, or ccproxy remove"
        )
    tails = ", ".join(map(masked_key, removed))
    file = short_path(entry.env_file)
    fix = f"ccproxy keys {entry.label} remove {' '.join(ids)} --yes"
    confirm(f"Remove {tails} from {file}?", yes=yes, fix=fix)
    write_keys(entry.env_file, remaining)
    show(f"Removed {tails} from {file}.")
    notify(options, "Next:  ccproxy reload")


def _present_keys(entry: Entry) -> tuple[str, ...]:
    """Return the keys of *entry*, with their attributes; UsageError if another file holds them."""
    if name := keys_file_in(read_text(entry.env_file)):
        text = f"the keys of {entry.label} are in {name} (PROVIDER_API_KEYS_FILE)"
        raise UsageError(f"{text}\n  fix: edit that file, then run: ccproxy reload {entry.label}")
    return read_keys(entry.env_file)


def _find(keys: Sequence[str], name: str, entry: Entry) -> str:
    by_id = {f"k{number}": key for number, key in enumerate(keys, 1)}
    if name in by_id:
        return by_id[name]
    tail = name.lstrip("…")
    matches = [key for key in keys if len(tail) >= 4 and mask_key(secret_of(key)) == f"…{tail}"]
    if len(matches) == 1:
        return matches[0]
    listed = ", ".join(f"{number} {masked_key(key)}" for number, key in by_id.items())
    text = f'no key "{name}" in {short_path(entry.env_file)}'
    raise UsageError(f"{text}\n  fix: use one of: {listed}")
