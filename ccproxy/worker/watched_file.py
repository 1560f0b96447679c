"""A file's meaning, read again whenever the file has changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


class Watched(Generic[T]):
    """What *read* makes of a file, again whenever the file has changed."""

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        self._path = path
        self._name = os.fspath(path)
        self._read = read
        self._mark: object = ()
        self._value: T

    def get(self) -> T:
        """Return the file's meaning; one system call if nothing has changed."""
        mark = _mark(self._name)
        if mark != self._mark:
            self._value = self._read(self._path)
            self._mark = mark
        return self._value


def _mark(name: str) -> object:
    try:
        facts = os.stat(name)  # noqa: PTH116 - for every request
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino
