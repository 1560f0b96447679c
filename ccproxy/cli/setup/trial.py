"""One request through a worker of its own, before anything of the user's is written."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ccproxy.cli.setup.user_files import write_new
from ccproxy.cli.test_connection import try_connection
from ccproxy.config.worker import WorkerConfig
from ccproxy.errors import CcproxyError, NotReady
from ccproxy.supervisor.processes.child_environment import clean_environment

_PATIENCE = 30.0
"""Seconds until the worker must be ready; it is a matter of one or two."""
_LEAVING = 5.0


def try_out(config: WorkerConfig, env_text: str) -> Mapping[str, Any]:
    """
    Return what /test-connection says of a worker with *config*, whose env file is *env_text*.

    The keys lie in a folder of mode 0700 meanwhile, and are in no argument and no environment.

    Raises:
        CcproxyError: If the worker does not come up, or does not answer.

    """
    with (
        tempfile.TemporaryDirectory(prefix="ccproxy-") as folder,
        # A port of its own: what it would have later, somebody may have just now.
        socket.create_server(("127.0.0.1", 0)) as listener,
        _worker(config, Path(folder), env_text, listener),
    ):
        host, port = listener.getsockname()
        try:
            return try_connection(replace(config, host=host, port=port))
        except (OSError, ValueError) as error:
            raise CcproxyError(f"the trial got no answer: {error}") from error


@contextmanager
def _worker(
    config: WorkerConfig, home: Path, env_text: str, listener: socket.socket
) -> Iterator[None]:
    """Run a worker below *home* that accepts at *listener*."""
    write_new(home / "trial.env", env_text)
    ours, theirs = os.pipe()
    arguments = {
        "--home": home,
        "--label": config.label,
        "--env-file": "trial.env",
        "--port": config.port,
        "--listen-fd": listener.fileno(),
        "--ready-fd": theirs,
    }
    command = [f"{name}={value}" for name, value in arguments.items()]
    child = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-P", "-m", "ccproxy.worker", *command],
        env=clean_environment(),
        pass_fds=[listener.fileno(), theirs],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        umask=0o077,
    )
    os.close(theirs)
    try:
        with os.fdopen(ours, "rb") as ready:
            _wait_until_ready(ready.fileno())
        yield
    finally:
        _end(child)


def _wait_until_ready(ready: int) -> None:
    if not select.select([ready], [], [], _PATIENCE)[0]:
        raise NotReady(f"the trial was not ready after {_PATIENCE:.0f} s\n  fix: --no-test")
    said = json.loads(os.read(ready, 65536) or b"{}")
    if not said.get("ready"):
        raise CcproxyError(f"the trial did not start: {said.get('error', 'it ended')}")


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_LEAVING)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
