"""The parsed content of a file, read again whenever the file changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


class Watched(Generic[T]):
    """The result of *read* for a file, cached until the file changes."""

    def __init__(self, path: Path, read: Callable[[Path], T]) -> None:
        self._path = path
        self._name = os.fspath(path)
        self._read = read
        self._version: object = ()
        self._value: T

    def get(self) -> T:
        """Return the content; costs one system call if the file has not changed."""
        version = _version(self._name)
        if version != self._version:
            self._value = self._read(self._path)
            self._version = version
        return self._value


def _version(name: str) -> object:
    try:
        status = os.stat(name)  # noqa: PTH116 - faster, and called for every request
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
