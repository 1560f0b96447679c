"""
What is written down about a worker, so that a supervisor that comes later knows it.

A record is never written in place: a temporary file is filled, synced and renamed, so that a
kill -9 at any moment leaves the old record or the new one. A record that cannot be read all the
same is set aside by its reader; the worker's control socket then tells what it said.

The files of one label: `<LABEL>.pid`, `<LABEL>@2.pid` for the second of several processes, and
`<LABEL>@1~<NONCE>.pid` for a process that was replaced and finishes its streams. Neither sign
may stand in a label, so no two labels share a name.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ccproxy.config.fleet import LABEL
from ccproxy.files import read_json, read_regular, write_atomically
from ccproxy.supervisor.processes.identity import Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """All that is needed to start the workers of one entry."""

    label: str
    host: str
    port: int
    env_file: str
    workers: int = 1
    digest: str = ""
    """Names the entry, its env file's content and the version that read it; empty: not known."""
    base_url: str = ""
    models: dict[str, str | None] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        """Where the proxy listens."""
        return self.host, self.port


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """One worker process, and what it was started from."""

    identity: Identity
    nonce: str
    control: str
    index: int
    spec: Spec

    @classmethod
    def from_json(cls, text: str) -> WorkerRecord:
        """
        Read a record.

        Raises:
            ValueError: If *text* is not one.

        """
        try:
            fields = json.loads(text)
            return cls(
                identity=identity_of(fields),
                nonce=_text(fields["nonce"]),
                control=_text(fields["control"]),
                index=_count(fields["index"]),
                spec=_spec_of(fields["spec"]),
            )
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"not a pid record: {error}") from error

    def to_json(self) -> str:
        """Write the record as JSON; pid, port and label stand at the top for other tools."""
        fields = {
            "pid": self.identity.pid,
            "start_time": self.identity.start,
            "boot_id": self.identity.boot,
            "nonce": self.nonce,
            "label": self.spec.label,
            "port": self.spec.port,
            "control": self.control,
            "index": self.index,
            "spec": asdict(self.spec),
        }
        return json.dumps(fields, indent=1) + "\n"


class RecordFolder:
    """The folder of pid records."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, record: WorkerRecord) -> None:
        """
        Write *record* as the current one of its position; a living predecessor is kept aside.

        Raises:
            OSError: If the disk does not take it.

        """
        path = self._folder / _name(record)
        try:
            before = _read(path)
        except (OSError, ValueError):
            before = None
        if before is not None and before.nonce != record.nonce and before.identity.is_alive():
            path.rename(self._folder / _name(before, leaving=True))
        write_atomically(path, record.to_json())

    def renew(self, record: WorkerRecord) -> None:
        """Write *record* if nothing is written at its place: it was removed, or the disk full."""
        if (self._folder / _name(record)).exists():
            return
        if not (self._folder / _name(record, leaving=True)).exists():
            with contextlib.suppress(OSError):  # there will be another time
                self.write(record)

    def remove(self, record: WorkerRecord) -> None:
        """Remove what was written about *record*'s process, and nothing else."""
        for path in (self._folder / _name(record), self._folder / _name(record, leaving=True)):
            try:
                if _read(path).nonce == record.nonce:
                    path.unlink()
            except (OSError, ValueError):
                continue

    def read(self) -> Iterator[tuple[Path, WorkerRecord | None]]:
        """Read every record of a worker; None stands for what cannot be read."""
        for path in sorted(self._folder.glob("*.pid")):
            if path.name == "supervisor.pid" or path.is_symlink():
                continue
            try:
                yield path, _read(path)
            except (OSError, ValueError):
                yield path, None


def identity_of(fields: Mapping[str, Any]) -> Identity:
    """
    Read who a record is about.

    Raises:
        KeyError, TypeError, ValueError: If it does not say.

    """
    start = fields["start_time"]
    if not isinstance(start, float):
        raise TypeError(f"no moment: {start!r}")
    return Identity(_count(fields["pid"]), start, _text(fields["boot_id"]))


def read_supervisor(folder: Path) -> dict[str, Any] | None:
    """Read the supervisor's own record; None if there is none that can be read."""
    try:
        fields = read_json(folder / "supervisor.pid")
    except (OSError, ValueError):
        return None
    return fields if isinstance(fields, dict) else None


def _read(path: Path) -> WorkerRecord:
    return WorkerRecord.from_json(read_regular(path))


def _spec_of(fields: Mapping[str, Any]) -> Spec:
    spec = Spec(**fields)
    if not LABEL.fullmatch(spec.label):
        raise ValueError(f"no label: {spec.label!r}")
    if not isinstance(spec.models, dict):
        raise TypeError(f"no models: {spec.models!r}")
    names = [name for name in spec.models.values() if name is not None]
    for text in (spec.host, spec.env_file, spec.digest, spec.base_url, *spec.models, *names):
        _text(text)
    for number in (spec.port, spec.workers):
        _count(number)
    return spec


def _text(value: object) -> str:
    """Return *value* if it is text that the system takes for a path or an argument."""
    if not isinstance(value, str) or b"\0" in os.fsencode(value):
        raise TypeError(f"no text: {value!r}")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or not 0 < value < 2**31:
        raise TypeError(f"no number: {value!r}")
    return value


def _name(record: WorkerRecord, *, leaving: bool = False) -> str:
    label, index = record.spec.label, record.index
    if leaving:
        return f"{label}@{index}~{record.nonce[:12]}.pid"
    return f"{label}.pid" if index == 1 else f"{label}@{index}.pid"
