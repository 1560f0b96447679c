"""
Where the table lies.

Somebody names it, by --config or $CCPROXY_CONFIG; else it is the first ccproxy.toml of

1. the current folder,
2. the folders above it, up to the home folder, or to where the filesystem ends (as git does),
3. the user's config folder,
4. the folder that holds the virtual environment whose `ccproxy` this is (as after `make run`).

A table decides what is started and where keys go. The user need not know of one that is come upon
by 2 or 4, so only the user or root may have put it there: /tmp/ccproxy.toml is nobody's.
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

VARIABLE = "CCPROXY_CONFIG"


class _Place(NamedTuple):
    """A file that may be the table."""

    file: Path
    is_chosen: bool
    """Whether the user chose the folder, and so answers for what lies in it."""

    @property
    def is_there(self) -> bool:
        """Whether there is a file; there is none where nobody may look."""
        return os.path.isfile(self.file)  # noqa: PTH113 - is_file raises where nobody may look

    @property
    def is_safe(self) -> bool:
        """Whether the file may be used."""
        return self.is_chosen or all(map(_is_ours, (self.file, self.file.parent)))


def find_config(option: str | None, *, environ: Mapping[str, str] | None = None) -> Path:
    """
    Find the table: *option*, else $CCPROXY_CONFIG, else the first that is come upon.

    Raises:
        ConfigError: If there is none, or the one that was named does not exist.

    """
    env = os.environ if environ is None else environ
    for given, source in ((option, "--config"), (env.get(VARIABLE), f"${VARIABLE}")):
        if given:
            return _named(Path(given).expanduser(), source)
    found = _come_upon(env)
    if found is None:
        kind = ConfigError if any(place.is_there for place in _places(env)) else NoFleetError
        raise kind([_nowhere(env)])
    return found


def place_for_config(option: str | None, *, environ: Mapping[str, str] | None = None) -> Path:
    """Return the table that `find_config` would find, or else where a first one belongs."""
    env = os.environ if environ is None else environ
    if given := option or env.get(VARIABLE):
        path = Path(given).expanduser()
        return (path / FILE_NAME if path.is_dir() else path).resolve()
    # Not the current folder: env files hold keys, and it may be anybody's repository.
    return _come_upon(env) or _own_table(env).resolve()


def _named(path: Path, source: str) -> Path:
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        text = f"there is no such file (named by {source})"
        raise ConfigError([Mistake(file=file, line=None, text=text, fix=f"correct {source}")])
    return file.resolve()


def _nowhere(env: Mapping[str, str]) -> Mistake:
    """Say where no table is, and which one was passed over."""
    *_, top = (Path.cwd(), *_above(env))
    lines = [
        f"there is no {FILE_NAME} where one is looked for",
        f"{FILE_NAME}: neither in this folder nor above it, up to {top}",
        f"{_own_table(env)}: does not exist",
        *(
            f"{place.file}: passed over, others can change it or its folder"
            for place in _places(env)
            if place.is_there
        ),
    ]
    fix = f"name yours with -c FILE or ${VARIABLE}; ccproxy init writes a first one"
    return Mistake(file=Path(FILE_NAME), line=None, text="\n      ".join(lines), fix=fix)


# The places, the first one first...


def _come_upon(env: Mapping[str, str]) -> Path | None:
    found = (place.file for place in _places(env) if place.is_there and place.is_safe)
    return next((file.resolve() for file in found), None)


def _places(env: Mapping[str, str]) -> Iterator[_Place]:
    yield _Place(Path.cwd() / FILE_NAME, is_chosen=True)
    for folder in _above(env):
        yield _Place(folder / FILE_NAME, is_chosen=False)
    yield _Place(_own_table(env), is_chosen=True)
    if (around := _around_environment()) is not None:
        yield _Place(around / FILE_NAME, is_chosen=False)


def _above(env: Mapping[str, str]) -> Iterator[Path]:
    """Return the folders above the current one, as far as they are looked into."""
    folder, top = Path.cwd(), _home(env).resolve()
    while folder != top and not os.path.ismount(folder):
        folder = folder.parent
        yield folder


def _own_table(env: Mapping[str, str]) -> Path:
    folder = Path(env.get("XDG_CONFIG_HOME") or _home(env) / ".config")
    return folder / "ccproxy" / FILE_NAME


def _around_environment() -> Path | None:
    """Return the folder that holds the virtual environment of the command; None without one."""
    prefix = Path(sys.prefix).resolve()
    is_ours = Path(sys.argv[0]).resolve() == prefix / "bin" / "ccproxy"
    return prefix.parent if is_ours and sys.prefix != sys.base_prefix else None


def _home(env: Mapping[str, str]) -> Path:
    try:
        return Path(env.get("HOME") or Path.home())
    except RuntimeError:  # a container's user without a home folder
        return Path("/")


# ...and who could have written what lies there.


def _is_ours(path: Path) -> bool:
    """Whether nobody but the user and root can change *path*."""
    facts = path.stat()
    shared = stat.S_IWOTH if _is_private(facts.st_gid) else stat.S_IWOTH | stat.S_IWGRP
    return facts.st_uid in (0, os.geteuid()) and not facts.st_mode & shared


def _is_private(group: int) -> bool:
    """Whether the user alone is in *group*: then a umask of 002 gives nobody else a right."""
    try:
        user, members = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return members.gr_name == user.pw_name and set(members.gr_mem) <= {user.pw_name}
