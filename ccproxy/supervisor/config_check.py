"""
Reads the user's files in a process of its own, and tells the supervisor what it must know.

A process of its own, because reading settings means holding keys and importing the conversion:
the supervisor, which lives for months, shall have neither. It also means that a reload after an
upgrade is judged by the new version. The digest of an entry names everything that its workers
were started from; it differs as soon as a reload has to replace them.

    python -m ccproxy.supervisor.config_check --config FILE [LABEL…]

prints `{"specs": […]}` or `{"mistakes": […]}` as one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from ccproxy.build import installed_build
from ccproxy.config.fleet import Entry, read_fleet
from ccproxy.errors import CcproxyError, ConfigError, Mistake
from ccproxy.supervisor.control.config_mistakes import mistakes_from_json, mistakes_to_json
from ccproxy.supervisor.state.records import Spec

COMMAND = (sys.executable, "-P", "-m", "ccproxy.supervisor.config_check")


class ConfigCheck(Protocol):
    """Reads the table and the env files of *labels* (all, if none is named)."""

    async def __call__(self, labels: Sequence[str], *, cwd: str | None) -> list[Spec]:
        """
        Return a spec for every entry of the table; those not examined have no digest.

        *cwd* is where the user is: mistakes are shown relative to it.

        Raises:
            ConfigError: With every mistake.

        """


class ChildConfigCheck:
    """The real one: asks a child process, and only if a file has changed since."""

    def __init__(
        self, file: Path, *, command: Sequence[str] = COMMAND, environment: Mapping[str, str]
    ) -> None:
        self._file = file
        self._command = command
        self._environment = environment
        self._known: dict[tuple[str, ...], tuple[object, list[Spec]]] = {}

    async def __call__(self, labels: Sequence[str], *, cwd: str | None) -> list[Spec]:
        """Return a spec for every entry of the table."""
        asked = tuple(sorted(label.lower() for label in labels))
        before = self._known.get(asked)
        if before is not None and before[0] == self._look(before[1]):
            return before[1]
        specs = await self._ask(asked, cwd)
        self._known = {asked: (self._look(specs), specs)}
        return specs

    def _look(self, specs: Sequence[Spec]) -> object:
        """Return what changes when a file that was read does, without reading any."""
        files = [self._file, *(Path(spec.env_file) for spec in specs)]
        return [installed_build(), *(_stat(file) for file in files)]

    async def _ask(self, labels: Sequence[str], cwd: str | None) -> list[Spec]:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *("--config", str(self._file), *labels),
            cwd=_folder(cwd) or self._file.parent,
            env=dict(self._environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        try:
            answer = json.loads(out)
        except ValueError as error:
            words = err.decode(errors="replace").strip().splitlines()
            last = words[-1] if words else f"exit code {process.returncode}"
            raise CcproxyError(f"the settings could not be read: {last}") from error
        if "mistakes" in answer:
            raise ConfigError(mistakes_from_json(answer["mistakes"]))
        return [Spec(**fields) for fields in answer["specs"]]


def _folder(path: str | None) -> Path | None:
    return Path(path) if path and Path(path).is_dir() else None


def _stat(file: Path) -> tuple[int, ...] | None:
    try:
        facts = file.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino


# In the child.


def examine(file: Path, labels: Sequence[str]) -> list[Spec]:
    """
    Read the table *file* and the env files of *labels*.

    Raises:
        ConfigError: With every mistake of all files.

    """
    fleet, found = read_fleet(file)
    ports = {entry.port: entry.label for entry in fleet.entries}
    specs: list[Spec] = []
    mistakes: list[Mistake] = list(found)
    for entry in fleet.entries:
        if labels and entry.label.lower() not in labels:
            specs.append(_bare_spec(entry))
            continue
        try:
            specs.append(_full_spec(entry, ports))
        except ConfigError as error:
            # Two entries may share an env file, and its mistakes are to be told once.
            mistakes += [mistake for mistake in error.mistakes if mistake not in mistakes]
    if mistakes:
        raise ConfigError(mistakes)
    return specs


def _bare_spec(entry: Entry) -> Spec:
    return Spec(
        label=entry.label,
        host="127.0.0.1",
        port=entry.port,
        env_file=os.fspath(entry.env_file),
        workers=entry.workers,
    )


def _full_spec(entry: Entry, ports: Mapping[int, str]) -> Spec:
    from ccproxy.config.worker import load_worker

    config = load_worker(entry.env_file, entry=entry, ports=ports)
    models = config.models
    return Spec(
        label=entry.label,
        host=config.host,
        port=entry.port,
        env_file=os.fspath(entry.env_file),
        workers=entry.workers,
        digest=digest_of(entry),
        base_url=config.base_url,
        models={"big": models.big, "middle": models.middle, "small": models.small},
    )


def digest_of(entry: Entry) -> str:
    """Name everything that a worker of *entry* is started from."""
    start = [installed_build(), entry.label, entry.port, entry.workers]
    start.append(os.fspath(entry.env_file))
    digest = hashlib.sha256(json.dumps(start).encode())
    digest.update(entry.env_file.read_bytes())
    return digest.hexdigest()


def main(argv: Sequence[str]) -> None:
    """Answer on stdout."""
    parser = argparse.ArgumentParser(prog="ccproxy.supervisor.config_check")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("labels", nargs="*", metavar="LABEL")
    options = parser.parse_args(argv)
    try:
        specs = examine(options.config, options.labels)
    except ConfigError as error:
        answer: dict[str, Any] = {"mistakes": mistakes_to_json(error.mistakes)}
    else:
        answer = {"specs": [asdict(spec) for spec in specs]}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
