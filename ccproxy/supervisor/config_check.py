"""
Checks the user's files in a separate process, and returns the result to the supervisor.

A process that reads settings has keys in memory and imports the conversion code. The supervisor,
which runs for months, does neither. A separate process also means that after an upgrade the new
version checks a reload.

    python -m ccproxy.supervisor.config_check --config FILE [LABEL…]

prints a `CheckResult` as one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ccproxy.build import installed_build
from ccproxy.config.fleet import Entry, local_table, read_fleet
from ccproxy.errors import CcproxyError, ConfigError, Mistake
from ccproxy.files import read_regular
from ccproxy.ipc.codec import MessageError, decode
from ccproxy.supervisor.config_changes import FileStatus, file_status, source_of
from ccproxy.supervisor.fleet.host import describe_start_error
from ccproxy.supervisor.processes.child_environment import clean_environment, network_variables
from ccproxy.supervisor.state.records import Spec

LIMIT = 30.0
"""Time limit of the check in seconds; the next operation waits for it."""

COMMAND = (sys.executable, "-P", "-m", "ccproxy.supervisor.config_check")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The parts of the user's files that the supervisor needs."""

    specs: tuple[Spec, ...] = ()
    """One per entry of the table; unchecked entries have no digest."""
    routing: str = ""
    """Hash of routes, fallback and presets, which workers read themselves."""
    files: Mapping[str, tuple[int, ...] | None] = field(default_factory=dict)
    """The status of each file before it was read, by path; None for a missing file."""
    mistakes: tuple[Mistake, ...] = ()
    """If there are any, the other fields are empty."""


class ConfigCheck:
    """Runs a child process, but only if a file or the environment has changed."""

    def __init__(
        self,
        file: Path,
        *,
        command: Sequence[str] = COMMAND,
        environment: Callable[[], Mapping[str, str]] = clean_environment,
        limit: float = LIMIT,
    ) -> None:
        self._file = file
        self._limit = limit
        self._command = command
        self._environment = environment
        self._last: tuple[object, CheckResult] | None = None
        """The inputs of the last check, without the files, and its result."""

    async def __call__(
        self,
        labels: Sequence[str],
        *,
        cwd: str | None,
        network: Mapping[str, str] | None = None,
    ) -> CheckResult:
        """
        Check the table and the env files of *labels*, or of all entries if it is empty.

        *cwd* is the user's folder; paths in mistakes are relative to it. *network* replaces the
        proxy variables with which workers are currently started.

        Raises:
            ConfigError: With every mistake.
            CcproxyError: If the files could not be checked.

        """
        selected = tuple(sorted(label.lower() for label in labels))
        environment = self._environment() if network is None else clean_environment(network)
        inputs = selected, dict(environment), installed_build()
        if self._last is not None and self._last[0] == inputs:
            result = self._last[1]
            if all(file_status(Path(name)) == before for name, before in result.files.items()):
                return result
        result = await self._run(selected, cwd, environment)
        self._last = inputs, result
        return result

    async def _run(
        self, labels: Sequence[str], cwd: str | None, environment: Mapping[str, str]
    ) -> CheckResult:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *("--config", str(self._file), *labels),
                cwd=_folder(cwd) or self._file.parent,
                env=dict(environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            text = f"the settings cannot be checked: {describe_start_error(error)}"
            raise CcproxyError(text) from error
        try:
            async with asyncio.timeout(self._limit):
                out, err = await process.communicate()
        except TimeoutError as error:
            text = f"the settings could not be read within {self._limit:g} s"
            fix = "look for an env file that is a pipe, or is on a server that does not answer"
            raise CcproxyError(f"{text}\n  fix: {fix}") from error
        finally:
            if process.returncode is None:
                process.kill()
        try:
            result = decode(CheckResult, out)
        except MessageError as error:
            lines = err.decode(errors="replace").strip().splitlines()
            last = lines[-1] if lines else f"exit code {process.returncode}"
            raise CcproxyError(f"the settings could not be read: {last}") from error
        if result.mistakes:
            raise ConfigError(result.mistakes)
        return result


def _folder(path: str | None) -> Path | None:
    return Path(path) if path and Path(path).is_dir() else None


# Functions of the child process.


def check(file: Path, labels: Sequence[str]) -> CheckResult:
    """Check the table *file* and the env files of *labels*; raise ConfigError with all mistakes."""
    files = {os.fspath(table): file_status(table) for table in (file, local_table(file))}
    fleet, table_mistakes = read_fleet(file)
    ports = {entry.port: entry.label for entry in fleet.entries}
    specs: list[Spec] = []
    mistakes: list[Mistake] = list(table_mistakes)
    for entry in fleet.entries:
        files.setdefault(os.fspath(entry.env_file), file_status(entry.env_file))
        if labels and entry.label.lower() not in labels:
            specs.append(_unchecked_spec(entry))
            continue
        try:
            specs.append(_checked_spec(entry, ports, files))
        except ConfigError as error:
            # Two entries may share an env file; its mistakes are reported once.
            mistakes += [mistake for mistake in error.mistakes if mistake not in mistakes]
    if mistakes:
        raise ConfigError(mistakes)
    return CheckResult(specs=tuple(specs), routing=_routing_digest(fleet.tables), files=files)


def _unchecked_spec(entry: Entry) -> Spec:
    return Spec(
        label=entry.label,
        host="127.0.0.1",
        port=entry.port,
        env_file=os.fspath(entry.env_file),
        workers=entry.workers,
    )


def _checked_spec(entry: Entry, ports: Mapping[int, str], files: dict[str, FileStatus]) -> Spec:
    """Return the checked spec of *entry*, and add the status of its key file to *files*."""
    from ccproxy.config.worker_config import load_worker

    config = load_worker(entry.env_file, entry=entry, ports=ports)
    models = config.models
    keys_file = os.fspath(config.keys_file or "")
    if config.keys_file:
        files.setdefault(keys_file, file_status(config.keys_file))
    source = source_of(entry, keys_file)
    return replace(
        _unchecked_spec(entry),
        host=config.host,
        keys_file=keys_file,
        digest=_worker_digest(source),
        source=source,
        base_url=config.base_url,
        models={"big": models.big, "middle": models.middle, "small": models.small},
    )


def _worker_digest(source: str) -> str:
    """Return the hash of everything that a worker depends on: files, code, environment."""
    fields = [installed_build(), source, sorted(network_variables(os.environ).items())]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()


def _routing_digest(files: Sequence[Path]) -> str:
    """Return the hash of the table in *files* without its entries."""
    parts: list[object] = []
    for file in files:
        document = tomllib.loads(read_regular(file, encoding="utf-8-sig"))
        entries = document.pop("proxy", ())
        document.pop("proxies", None)
        fallbacks = [[one["label"], one["fallback"]] for one in entries if "fallback" in one]
        parts += [document, fallbacks]
    fields = json.dumps([part for part in parts if part], sort_keys=True, default=str)
    return hashlib.sha256(fields.encode()).hexdigest()


def main(argv: Sequence[str]) -> None:
    """Print the result of the check."""
    parser = argparse.ArgumentParser(prog="ccproxy.supervisor.config_check")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("labels", nargs="*", metavar="LABEL")
    options = parser.parse_args(argv)
    try:
        result = check(options.config, options.labels)
    except ConfigError as error:
        result = CheckResult(mistakes=error.mistakes)
    sys.stdout.write(json.dumps(asdict(result), default=os.fspath) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
