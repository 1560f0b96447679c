"""
A proxy without ccproxy.toml, as in a container: `ccproxy up --port 8081`.

Its worker replaces the ccproxy process, so signals and the exit code are the worker's own. It gets
a control socket and a record in its home folder, through which `ccproxy keys` and `ccproxy status`
find it without a table.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ccproxy.cli.render.terminal import print_error, short_path
from ccproxy.config.fleet import LABEL, Entry, Fleet
from ccproxy.errors import CcproxyError, PortInUse, UsageError
from ccproxy.files import home_folder
from ccproxy.log_rotation import log_path

FROM_ENVIRONMENT = Path()
"""The env file of a proxy that is configured by environment variables."""
NO_TABLE = "no ccproxy.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleProxy:
    """The proxy to run."""

    entry: Entry
    host: str
    environ: Mapping[str, str]


def read_settings(
    env_file: Path | None, port: int | None, label: str | None, environ: Mapping[str, str]
) -> SingleProxy:
    """
    Return the proxy that *env_file* or, if there is no file, *environ* describes.

    Raises:
        ConfigError: If the settings have mistakes, or the file is missing.
        UsageError: If the port is missing, or the label is not valid.
    """
    # Reads presets and conversion settings: too slow to load for --help and completion.
    from ccproxy.config.settings import is_setting
    from ccproxy.config.worker_config import load_worker

    port = port or load_worker(env_file, environ=environ).port
    if not port:
        fix = "add --port 8081, or set PORT=8081 in the env file"
        raise UsageError(f"the port is missing\n  fix: {fix}")
    label = label or _default_label(env_file, environ)
    if not LABEL.fullmatch(label):
        rule = "letters, digits, dots and dashes, at most 32 characters"
        raise UsageError(f'"{label}" is not a valid label\n  fix: use {rule}')
    file = FROM_ENVIRONMENT if env_file is None else env_file.resolve()
    entry = Entry(port=port, env_file=file, label=label)
    config = load_worker(env_file if env_file is None else file, entry=entry, environ=environ)
    if env_file is not None:  # this worker does not use the keys in the environment
        environ = {name: value for name, value in environ.items() if not is_setting(name)}
    return SingleProxy(entry=entry, host=config.host, environ=environ)


def default_home(environ: Mapping[str, str]) -> Path:
    """
    Return $XDG_STATE_HOME/ccproxy, or ~/.local/state/ccproxy.

    If that folder is not writable, as in a container with a random user, return this user's folder
    in the temporary folder, so that another `ccproxy` in the container finds the same one.
    """
    state = environ.get("XDG_STATE_HOME") or home_folder(environ) / ".local" / "state"
    home = Path(state) / "ccproxy"
    if _is_writable(home):
        return home
    # Not tempfile.gettempdir(), which fails on a read-only file system.
    return Path(environ.get("TMPDIR") or "/tmp", f"ccproxy-{os.getuid()}")  # noqa: S108 - see above


def _is_writable(folder: Path) -> bool:
    """Return True if *folder* is writable or can be created."""
    while not os.path.lexists(folder):
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def become_worker(proxy: SingleProxy, home: Path, *, style: str, quiet: bool) -> NoReturn:
    """
    Replace this process with the worker, which shows its log on stderr in *style*.

    Raises:
        PortInUse: If another program uses the port.
        CcproxyError: If the address cannot be bound for another reason.
    """
    home = home.absolute()
    entry = proxy.entry
    log = log_path(home / "logs", entry.label)
    listener = _listen(proxy.host, entry.port)
    arguments = {
        "--home": home,
        "--label": entry.label,
        "--port": entry.port,
        "--env-file": "-" if entry.env_file == FROM_ENVIRONMENT else entry.env_file,
        "--listen-fd": listener,
        "--echo": style,
    }
    ready = f"{entry.label} is ready on port {entry.port}"
    try:
        for folder in (home, log.parent, home / "pids"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        arguments |= _register(proxy, home)
        ready += f"; logs in {short_path(log)}"
    except OSError as error:
        text = f"{short_path(home)} is not writable ({error.strerror})"
        print_error(f"warning: {text}: logs go to stderr only, and `ccproxy keys` cannot be used")
    if not quiet:
        arguments["--greeting"] = ready
    command = [sys.executable, "-P", "-m", "ccproxy.worker"]
    command += [f"{name}={value}" for name, value in arguments.items()]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, proxy.environ)  # noqa: S606 - our own program


def _register(proxy: SingleProxy, home: Path) -> dict[str, str | Path | int]:
    """Write the record of this process and return the arguments for its control socket."""
    from ccproxy.ipc.socket_paths import socket_path
    from ccproxy.supervisor.processes.identity import identify
    from ccproxy.supervisor.sockets.unix_socket import (
        prepare_folder,
    )
    from ccproxy.supervisor.state.records import RecordFolder, Spec, WorkerRecord

    entry = proxy.entry
    identity = identify(os.getpid())  # execve() keeps the pid and the start time
    if identity is None:
        return {}
    nonce = secrets.token_hex(16)
    control = socket_path(home, f"{entry.label}.1.{nonce[:8]}")
    prepare_folder(control)
    spec = Spec(label=entry.label, host=proxy.host, port=entry.port, env_file=str(entry.env_file))
    record = WorkerRecord(
        home=str(home),
        identity=identity,
        nonce=nonce,
        control=str(control),
        index=1,
        spec=spec,
    )
    RecordFolder(home / "pids").write(record)
    return {"--control": control, "--nonce": nonce}


def running_single_proxies(environ: Mapping[str, str]) -> Fleet | None:
    """Return a fleet of the proxies that run without a table, or None if there are none."""
    from ccproxy.supervisor.state.records import RecordFolder

    home = default_home(environ)
    entries = tuple(
        Entry(port=record.spec.port, env_file=Path(record.spec.env_file), label=record.spec.label)
        for record in RecordFolder(home / "pids").running()
    )
    return Fleet(home=home, file=Path(NO_TABLE), entries=entries) if entries else None


def has_table(fleet: Fleet) -> bool:
    """Return False for the proxies that run without a table."""
    return fleet.file != Path(NO_TABLE)


def table_arguments(fleet: Fleet) -> list[str]:
    """Return the arguments that select *fleet* in another ccproxy process."""
    return ["--config", str(fleet.file.absolute())] if has_table(fleet) else []


def require_table(fleet: Fleet) -> None:
    """Raise UsageError for proxies without a table, which cannot be routed, checked or started."""
    if not has_table(fleet):
        fix = "ccproxy init, then ccproxy start"
        raise UsageError(
            f"a proxy started with `ccproxy up --port` has no ccproxy.toml\n  fix: {fix}"
        )


def require_env_file(entry: Entry) -> None:
    """Raise UsageError for a proxy that is configured only by environment variables."""
    if entry.env_file == FROM_ENVIRONMENT:
        text = f"the settings of {entry.label} exist only in the environment of `ccproxy up`"
        raise UsageError(f"{text}\n  fix: ccproxy up --env FILE --port {entry.port}")


def _default_label(env_file: Path | None, environ: Mapping[str, str]) -> str:
    name = env_file.stem if env_file is not None else environ.get("PROVIDER", "")
    return re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip("._-")[:32] or "proxy"


def _listen(host: str, port: int) -> int:
    """Return the descriptor of a listening socket that execve() keeps open."""
    from ccproxy.supervisor.fleet.plan import Port
    from ccproxy.supervisor.sockets.listeners import Listeners

    listeners = Listeners(clock=time.monotonic)
    trouble = listeners.bind((host, port))
    if trouble is not None and trouble.port is Port.FOREIGN:
        raise PortInUse(
            f"{trouble.reason}\n  fix: stop the other program, or choose another --port"
        )
    if trouble is not None:
        raise CcproxyError(trouble.reason)
    listener = os.dup(listeners.fileno((host, port)))
    os.set_inheritable(listener, True)
    return listener
