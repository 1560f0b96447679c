"""
Finds the user's table, `ccproxy.toml`.

Its location is given by --config or $CCPROXY_CONFIG. Otherwise it is the first ccproxy.toml of

1. the current folder,
2. the folders above it, up to the home folder or the root of the file system (like git),
3. the user's config folder,
4. the folder that contains the virtual environment of this `ccproxy` (as after `make run`).

A table decides which programs are started and where keys are sent. The user might not be aware of a
table found by 2 or 4. Such a table is used only if it and its folder are writable by no one but the
user and root: another user's /tmp/ccproxy.toml is not used.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ccproxy.config.fleet import FILE_NAME
from ccproxy.errors import ConfigError, Mistake, NoFleetError
from ccproxy.files import expand_home, home_folder

VARIABLE = "CCPROXY_CONFIG"


class _Candidate(NamedTuple):
    """A file that could be the table."""

    file: Path
    is_chosen: bool
    """True if the user chose the folder."""

    @property
    def exists(self) -> bool:
        """True if there is a file; False in a folder that cannot be searched."""
        return os.path.isfile(self.file)  # noqa: PTH113 - is_file raises in such a folder

    @property
    def is_safe(self) -> bool:
        """True if the file may be used."""
        return self.is_chosen or all(map(_is_protected, (self.file, self.file.parent)))


def find_config(option: str | None, *, environ: Mapping[str, str] | None = None) -> Path:
    """
    Return the table: *option*, else $CCPROXY_CONFIG, else the first one in the locations above.

    Raises:
        NoFleetError: If there is none.
        ConfigError: If the given file does not exist, or every file found is unsafe.
    """
    env = os.environ if environ is None else environ
    for path, source in ((option, "--config"), (env.get(VARIABLE), f"${VARIABLE}")):
        if path:
            return _given_file(expand_home(path), source)
    file = _search(env)
    if file is None:
        is_unsafe = any(candidate.exists for candidate in _candidates(env))
        raise (ConfigError if is_unsafe else NoFleetError)([_no_table(env)])
    return file


def place_for_config(option: str | None, *, environ: Mapping[str, str] | None = None) -> Path:
    """Return the table that `find_config` finds, otherwise the path for a first table."""
    env = os.environ if environ is None else environ
    if text := option or env.get(VARIABLE):
        path = expand_home(text)
        return (path / FILE_NAME if path.is_dir() else path).resolve()
    # Not the current folder, which may be any repository: env files contain keys.
    return _search(env) or _user_table(env).resolve()


def _given_file(path: Path, source: str) -> Path:
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        text = f"this file does not exist (set by {source})"
        raise ConfigError([Mistake(file=file, line=None, text=text, fix=f"correct {source}")])
    return file.resolve()


def _no_table(env: Mapping[str, str]) -> Mistake:
    """Return the mistake that lists the searched locations and the files that are not used."""
    *_, top = (Path.cwd(), *_folders_above(env))
    lines = [
        f"there is no {FILE_NAME} in the searched locations",
        f"{FILE_NAME}: neither in this folder nor above it, up to {top}",
        f"{_user_table(env)}: does not exist",
        *(
            f"{candidate.file}: not used, because other users can change it or its folder"
            for candidate in _candidates(env)
            if candidate.exists
        ),
    ]
    fix = f"create one with ccproxy init, or name yours with -c FILE or ${VARIABLE}"
    return Mistake(file=Path(FILE_NAME), line=None, text="\n      ".join(lines), fix=fix)


# The locations in order...


def _search(env: Mapping[str, str]) -> Path | None:
    candidates = (one.file for one in _candidates(env) if one.exists and one.is_safe)
    return next((file.resolve() for file in candidates), None)


def _candidates(env: Mapping[str, str]) -> Iterator[_Candidate]:
    yield _Candidate(Path.cwd() / FILE_NAME, is_chosen=True)
    for folder in _folders_above(env):
        yield _Candidate(folder / FILE_NAME, is_chosen=False)
    yield _Candidate(_user_table(env), is_chosen=True)
    if (folder_of_environment := _folder_of_environment()) is not None:
        yield _Candidate(folder_of_environment / FILE_NAME, is_chosen=False)


def _folders_above(env: Mapping[str, str]) -> Iterator[Path]:
    """Return the searched folders above the current one."""
    folder, top = Path.cwd(), home_folder(env).resolve()
    while folder != top and not os.path.ismount(folder):
        folder = folder.parent
        yield folder


def user_folder(env: Mapping[str, str]) -> Path:
    """Return the user's config folder, which might not exist."""
    folder = Path(env.get("XDG_CONFIG_HOME") or home_folder(env) / ".config")
    return folder / "ccproxy"


def _user_table(env: Mapping[str, str]) -> Path:
    return user_folder(env) / FILE_NAME


def _folder_of_environment() -> Path | None:
    """Return the folder that contains the virtual environment of the command, if any."""
    prefix = Path(sys.prefix).resolve()
    is_ours = Path(sys.argv[0]).resolve() == prefix / "bin" / "ccproxy"
    return prefix.parent if is_ours and sys.prefix != sys.base_prefix else None


# ...and the users who can change a file.


def _is_protected(path: Path) -> bool:
    """Return True if only the user and root can change *path*."""
    return path.stat().st_uid in (0, os.geteuid()) and not is_writable_by_others(path)


def is_writable_by_others(path: Path) -> bool:
    """Return True if the permissions of *path* allow other users to change it."""
    facts = path.stat()
    shared = stat.S_IWOTH if _is_private(facts.st_gid) else stat.S_IWOTH | stat.S_IWGRP
    return bool(facts.st_mode & shared)


def _is_private(group: int) -> bool:
    """Return True if *group* contains only the user, so that a umask of 002 is harmless."""
    try:
        user, members = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return members.gr_name == user.pw_name and set(members.gr_mem) <= {user.pw_name}
