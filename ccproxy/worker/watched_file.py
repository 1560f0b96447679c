"""The parsed content of a file, read again whenever the file changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


class Watched(Generic[T]):
    """The result of *read* for a file, cached until it or the file *beside* it changes."""

    def __init__(
        self, path: Path, read: Callable[[Path], T], *, beside: Path | None = None
    ) -> None:
        self._path = path
        self._name = os.fspath(path)
        self._beside = "" if beside is None else os.fspath(beside)
        self._read = read
        self._version: object = ()
        self._value: T

    def get(self) -> T:
        """Return the content; costs one system call per file if nothing has changed."""
        version = _version(self._name)
        if self._beside:
            version = (version, _version(self._beside))
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
