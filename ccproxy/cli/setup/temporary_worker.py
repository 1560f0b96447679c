"""Run a worker for a few test requests, before any of the user's files is written."""

from __future__ import annotations

import json
import os
import secrets
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ccproxy.cli.setup.config_edit import write_new
from ccproxy.config.worker_config import WorkerConfig
from ccproxy.errors import CcproxyError, NotReady
from ccproxy.ipc.control_messages import KeysReply, KeysRequest, KeyTest
from ccproxy.supervisor.processes.child_environment import clean_environment
from ccproxy.supervisor.sockets.unix_socket import NoAnswer, WorkerRefused, ask_worker

_ENV_FILE = "test.env"
_READY_TIMEOUT = 30.0
_TEST_TIMEOUT = 120.0
_EXIT_TIMEOUT = 5.0
"""All three timeouts are in seconds."""

TestKey = Callable[[str], KeyTest]
"""Sends one request with the key that has this id (`k1` is the first)."""


@contextmanager
def temporary_worker(config: WorkerConfig, env_text: str) -> Iterator[TestKey]:
    """
    Run a worker with *config* and the env file *env_text*; yield a function that tests keys.

    The keys are in a temporary folder with mode 0700, never in arguments or the environment.

    Raises:
        CcproxyError: If the worker does not start, or does not reply.
    """
    with (
        tempfile.TemporaryDirectory(prefix="ccproxy-") as folder,
        # A free port: another program may use the configured one.
        socket.create_server(("127.0.0.1", 0)) as listener,
        _worker(config, Path(folder), env_text, listener) as control,
    ):

        def test_key(key_id: str) -> KeyTest:
            try:
                request = KeysRequest(action="test", id=key_id)
                (test,) = ask_worker(control, request, KeysReply, timeout=_TEST_TIMEOUT).tests
            except (NoAnswer, WorkerRefused, ValueError) as error:
                raise CcproxyError(f"the test worker did not reply: {error}") from error
            # The name of this temporary file means nothing to the user.
            message = test.message.replace(f" in {Path(folder, _ENV_FILE)}", "")
            return replace(test, message=message)

        yield test_key


@contextmanager
def _worker(
    config: WorkerConfig, home: Path, env_text: str, listener: socket.socket
) -> Iterator[Path]:
    """Run a worker in *home* that accepts connections on *listener*; yield its control socket."""
    write_new(home / _ENV_FILE, env_text)
    control = home / "control.sock"
    read_end, write_end = os.pipe()
    arguments = {
        "--home": home,
        "--label": config.label,
        "--env-file": _ENV_FILE,
        "--port": config.port,
        "--listen-fd": listener.fileno(),
        "--ready-fd": write_end,
        "--control": control,
        "--nonce": secrets.token_hex(8),
    }
    command = [f"{name}={value}" for name, value in arguments.items()]
    child = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-P", "-m", "ccproxy.worker", *command],
        env=clean_environment(),
        pass_fds=[listener.fileno(), write_end],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        umask=0o077,
    )
    os.close(write_end)
    try:
        with os.fdopen(read_end, "rb") as pipe:
            _wait_until_ready(pipe.fileno())
        yield control
    finally:
        _stop(child)


def _wait_until_ready(pipe: int) -> None:
    if not select.select([pipe], [], [], _READY_TIMEOUT)[0]:
        text = f"the test worker was not ready within {_READY_TIMEOUT:.0f} s"
        raise NotReady(f"{text}\n  fix: --no-test")
    message = json.loads(os.read(pipe, 65536) or b"{}")
    if not message.get("ready"):
        raise CcproxyError(f"the test worker did not start: {message.get('error', 'it exited')}")


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_EXIT_TIMEOUT)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
