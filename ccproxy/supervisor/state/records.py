"""
Pid records: what a new supervisor needs to know about running processes.

Records are replaced atomically, so a kill leaves either the old record or the new one. An
unreadable record is deleted by its reader and rebuilt from the worker's control socket.

A record belongs to the fleet in its `home`. In a copied folder the records of the original are
ignored, because their processes belong to the original fleet.

The files of one label: `<LABEL>.pid`, `<LABEL>@2.pid` for the second of several processes, and
`<LABEL>@1~<NONCE>.pid` for a replaced process that finishes its requests. Labels contain neither
`@` nor `~`, so no two labels share a name.
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
from ccproxy.ipc.codec import MessageError, from_fields
from ccproxy.supervisor.processes.identity import Identity

SUPERVISOR_FILE = "supervisor.pid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The inputs for starting the workers of one entry."""

    label: str
    host: str
    port: int
    env_file: str
    workers: int = 1
    digest: str = ""
    """Hash of everything that a worker depends on; a change makes a reload replace the worker."""
    source: str = ""
    """Hash of only the entry and its files; it differs if the user has changed them."""
    keys_file: str = ""
    """The file of PROVIDER_API_KEYS_FILE; empty if that is not set."""
    base_url: str = ""
    models: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on which the workers listen."""
        return self.host, self.port


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """One worker process, and the spec from which it was started."""

    identity: Identity
    nonce: str
    control: str
    index: int
    spec: Spec
    home: str
    """The fleet's home."""

    @classmethod
    def from_json(cls, text: str) -> WorkerRecord:
        """Return the record in *text*, or raise ValueError."""
        try:
            fields = json.loads(text)
            return cls(
                identity=identity_of(fields),
                nonce=_text(fields["nonce"]),
                control=_text(fields["control"]),
                index=_positive(fields["index"]),
                spec=_spec_of(fields["spec"]),
                home=_text(fields["home"]),
            )
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"not a pid record: {error}") from error

    def to_json(self) -> str:
        """Return the record as JSON; pid, port and label are at the top level for other tools."""
        fields = {
            "pid": self.identity.pid,
            "start_time": self.identity.start,
            "boot_id": self.identity.boot,
            "nonce": self.nonce,
            "label": self.spec.label,
            "port": self.spec.port,
            "control": self.control,
            "index": self.index,
            "home": self.home,
            "spec": asdict(self.spec),
        }
        return json.dumps(fields, indent=1) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorRecord:
    """The supervisor process of a fleet."""

    pid: int
    start_time: float
    boot_id: str
    control: str
    """The path of its control socket."""
    home: str

    @property
    def identity(self) -> Identity:
        """The identity of the process."""
        return Identity(self.pid, self.start_time, self.boot_id)


class RecordFolder:
    """The folder of pid records."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, record: WorkerRecord) -> None:
        """
        Write *record* as the current record of its position; a running predecessor keeps its file.

        Raises:
            OSError: If the file cannot be written.

        """
        path = self._folder / _name(record)
        try:
            before = _read(path)
        except (OSError, ValueError):
            before = None
        if before is not None and before.nonce != record.nonce and before.identity.is_alive():
            path.rename(self._folder / _name(before, is_replaced=True))
        write_atomically(path, record.to_json())

    def restore(self, record: WorkerRecord) -> None:
        """Write *record* if it has no file: it was removed, or the disk was full."""
        if (self._folder / _name(record)).exists():
            return
        if not (self._folder / _name(record, is_replaced=True)).exists():
            with contextlib.suppress(OSError):  # the caller retries
                self.write(record)

    def remove(self, record: WorkerRecord) -> None:
        """Remove only the file of *record*'s process."""
        names = (_name(record), _name(record, is_replaced=True))
        for path in (self._folder / name for name in names):
            try:
                if _read(path).nonce == record.nonce:
                    path.unlink()
            except (OSError, ValueError):
                continue

    def read(self) -> Iterator[tuple[Path, WorkerRecord | None]]:
        """Yield each record file with its worker's record, or None if it cannot be read."""
        for path in sorted(self._folder.glob("*.pid")):
            if path.name == SUPERVISOR_FILE or path.is_symlink():
                continue
            try:
                yield path, _read(path)
            except (OSError, ValueError):
                yield path, None

    def running(self, *, with_replaced: bool = True) -> list[WorkerRecord]:
        """Return the records of running workers, without those of a copied folder's original."""
        return [
            record
            for path, record in self.read()
            if record is not None
            and (with_replaced or "~" not in path.name)
            and record.identity.is_alive()
            and is_home(record.home, self._folder.parent)
        ]


def identity_of(fields: Mapping[str, Any]) -> Identity:
    """
    Return the process that a record describes.

    Raises:
        KeyError, TypeError, ValueError: If the fields are missing or wrong.

    """
    start = fields["start_time"]
    if not isinstance(start, float):
        raise TypeError(f"not a start time: {start!r}")
    return Identity(_positive(fields["pid"]), start, _text(fields["boot_id"]))


def read_supervisor(pids: Path) -> SupervisorRecord | None:
    """Return the supervisor's record in the folder *pids*, or None if there is none."""
    try:
        fields = read_json(pids / SUPERVISOR_FILE)
        record = from_fields(SupervisorRecord, fields)
        identity_of(fields)
        _text(record.control)
    except (OSError, KeyError, TypeError, ValueError):
        return None
    return record if is_home(record.home, pids.parent) else None


def is_home(recorded: str | None, home: Path) -> bool:
    """Return True if *recorded* is the path of *home*, or another path to the same folder."""
    if not recorded:
        return False
    try:
        return recorded == str(home) or Path(recorded).samefile(home)
    except (OSError, ValueError):
        return False


def _read(path: Path) -> WorkerRecord:
    return WorkerRecord.from_json(read_regular(path))


def _spec_of(fields: Mapping[str, Any]) -> Spec:
    spec = from_fields(Spec, fields)
    if not LABEL.fullmatch(spec.label):
        raise MessageError(f"not a label: {spec.label!r}")
    names = [name for name in spec.models.values() if name is not None]
    for text in (
        spec.host,
        spec.env_file,
        spec.keys_file,
        spec.digest,
        spec.base_url,
        *spec.models,
        *names,
    ):
        _text(text)
    for number in (spec.port, spec.workers):
        _positive(number)
    return spec


def _text(value: object) -> str:
    """Return *value* if the system accepts it as a path or an argument."""
    if not isinstance(value, str) or b"\0" in os.fsencode(value):
        raise TypeError(f"not a text: {value!r}")
    return value


def _positive(value: object) -> int:
    if not isinstance(value, int) or not 0 < value < 2**31:
        raise TypeError(f"not a number: {value!r}")
    return value


def _name(record: WorkerRecord, *, is_replaced: bool = False) -> str:
    label, index = record.spec.label, record.index
    if is_replaced:
        return f"{label}@{index}~{record.nonce[:12]}.pid"
    return f"{label}.pid" if index == 1 else f"{label}@{index}.pid"
