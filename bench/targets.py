"""The measured processes. A run terminates only processes that it started."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import peers
from ccproxy.supervisor.processes.child_environment import ALLOCATOR

ROOT = Path(__file__).parent.parent
SERVER_CPU = "1"
"""The CPU for the servers, if there are two; client and upstream use the other."""


FIVE_KEYS = {"ccproxy-rotation": "off", "ccproxy-affinity": "session", "ccproxy-redis": "off"}
"""The targets with five keys, and their KEY_AFFINITY."""


class NotStarted(Exception):
    """A target did not start; the message contains the cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server that answers Messages requests."""

    name: str
    port: int
    pid: int
    path: str = "/v1/messages"
    direct: bool = False
    """True if it sends Messages requests upstream, so that nothing is converted."""

    @property
    def baseline(self) -> str:
        """The target whose figures are the base of its ratios."""
        if self.name in FIVE_KEYS:
            return "ccproxy-rotation"
        return "bare-direct" if self.direct else "bare"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The folder for a target's files, and its upstream."""

    folder: Path
    upstream_port: int

    @property
    def upstream(self) -> str:
        """The upstream's address, without a path."""
        return f"http://127.0.0.1:{self.upstream_port}"


def free_ports(count: int) -> list[int]:
    """Return *count* free ports."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def process(
    command: Sequence[str],
    *,
    log: Path,
    port: int,
    environ: Mapping[str, str] | None = None,
    patience: float = 30,
) -> Iterator[int]:
    """
    Run *command* until the block ends; yield its pid when *port* accepts connections.

    Raises:
        NotStarted: If it exits, or does not listen within *patience* seconds.
    """
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environ or {})},
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        _wait_for(child, port, patience=patience, log=log)
        yield child.pid
    finally:
        _end(child)


def _wait_for(child: subprocess.Popen[bytes], port: int, *, patience: float, log: Path) -> None:
    late = time.monotonic() + patience
    while time.monotonic() < late:
        if child.poll() is not None:
            raise NotStarted(f"ended with {child.returncode}: {_end_of_log(log)}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise NotStarted(f"did not listen within {patience:.0f} s: {_end_of_log(log)}")


def _end_of_log(log: Path) -> str:
    return log.read_text(errors="replace").strip()[-400:]


def _end(child: subprocess.Popen[bytes]) -> None:
    """Terminate the session of *child*: SIGTERM, then SIGKILL."""
    for number, patience in ((signal.SIGINT, 5), (signal.SIGTERM, 2), (signal.SIGKILL, 5)):
        if child.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience)


def pinned(command: Sequence[str]) -> list[str]:
    """Return *command*, pinned to the servers' CPU if there are two."""
    if shutil.which("taskset") and (os.cpu_count() or 1) > 1:
        return ["taskset", "--cpu-list", SERVER_CPU, *command]
    return list(command)


# One context manager per kind of target; each yields the started targets.


@contextlib.contextmanager
def upstream(folder: Path, seconds: float) -> Iterator[int]:
    """Run the scripted provider for at most *seconds*; yield its port."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "bench.upstream", str(port), str(seconds)]
    with process(command, log=folder / "upstream.log", port=port):
        yield port


@contextlib.contextmanager
def bare(setup: Setup) -> Iterator[list[Target]]:
    """Run the aiohttp relay that converts nothing."""
    (port,) = free_ports(1)
    command = pinned([sys.executable, "-m", "bench.relay", str(port), setup.upstream])
    with process(command, log=setup.folder / "bare.log", port=port) as pid:
        path = "/direct/v1/messages"
        yield [
            Target(name="bare", port=port, pid=pid),
            Target(name="bare-direct", port=port, pid=pid, path=path, direct=True),
        ]


@contextlib.contextmanager
def nginx(setup: Setup) -> Iterator[list[Target]]:
    """Run nginx as a relay, one process, unbuffered."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        raise NotStarted("nginx is not installed")
    (port,) = free_ports(1)
    file = setup.folder / "nginx.conf"
    file.write_text(peers.nginx_conf(port, setup.upstream_port, setup.folder))
    command = pinned([program, "-c", str(file), "-p", str(setup.folder)])
    with process(command, log=setup.folder / "nginx.log", port=port) as pid:
        yield [Target(name="nginx", port=port, pid=pid)]


_NAMES = {"chat": "ccproxy", "responses": "ccproxy-responses", "messages": "ccproxy-direct"}
"""Names of the targets, by the dialect that they use upstream."""


@contextlib.contextmanager
def ccproxy(
    setup: Setup, *, api: str = "chat", name: str = "", redis: str = ""
) -> Iterator[list[Target]]:
    """
    Run one ccproxy worker without a supervisor, with the allocator settings of a fleet.

    It has five keys if *name* is in `FIVE_KEYS`. *redis* is its REDIS_URL.
    """
    name = name or _NAMES[api]
    (port,) = free_ports(1)
    home = setup.folder / name
    home.mkdir()
    env_file = home / "bench.env"
    affinity = FIVE_KEYS.get(name, "")
    write_settings(env_file, setup.upstream, api=api, affinity=affinity, redis=redis)
    command = [sys.executable, "-m", "ccproxy.worker", "--home", str(home), "--label", name]
    command += ["--env-file", str(env_file), "--port", str(port), "--nonce", "00"]
    log = home / "worker.out"
    with process(pinned(command), log=log, port=port, environ=ALLOCATOR) as pid:
        yield [Target(name=name, port=port, pid=pid, direct=api == "messages")]


@contextlib.contextmanager
def ccproxy_with_redis(setup: Setup) -> Iterator[list[Target]]:
    """Run a worker with five keys and a separate redis-server that stores their state."""
    program = shutil.which("redis-server")
    if program is None:
        raise NotStarted("redis-server is not installed")
    (port,) = free_ports(1)
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with (
        process(command, log=setup.folder / "redis.log", port=port),
        ccproxy(setup, name="ccproxy-redis", redis=f"redis://127.0.0.1:{port}") as running,
    ):
        yield running


def write_settings(
    file: Path, upstream_url: str, *, api: str = "chat", affinity: str = "", redis: str = ""
) -> None:
    """Write the env file of a proxy for the scripted provider."""
    keys = [f"sk-bench-{number:04}" for number in range(1, 6 if affinity else 2)]
    lines = [
        f"PROVIDER_BASE_URL={upstream_url}" + ("" if api == "messages" else "/v1"),
        f"PROVIDER_API_KEY={','.join(keys)}",
        f"KEY_AFFINITY={affinity or 'session'}",
        f"PROVIDER_API={api}",
        "BIG_MODEL=gpt-4o",
        "MIDDLE_MODEL=gpt-4o",
        "SMALL_MODEL=gpt-4o-mini",
    ]
    if redis:
        lines += [f"REDIS_URL={redis}", f"SIGNING_KEY={'0' * 64}"]
    file.write_text("\n".join(lines) + "\n")
    file.chmod(0o600)  # a file with a key, even a dummy, must be private


@contextlib.contextmanager
def litellm(setup: Setup) -> Iterator[list[Target]]:
    """Run LiteLLM's proxy, installed from PyPI into a separate environment."""
    (port,) = free_ports(1)
    file = setup.folder / "litellm.json"  # JSON is YAML
    file.write_text(json.dumps(peers.litellm_config(setup.upstream)))
    command = [str(peers.install_litellm()), "--config", str(file), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--num_workers", "1"]
    log = setup.folder / "litellm.log"
    environ = peers.LITELLM_ENVIRON
    with process(pinned(command), log=log, port=port, environ=environ, patience=90) as pid:
        yield [Target(name="litellm", port=port, pid=pid)]


@contextlib.contextmanager
def claude_code_router(setup: Setup) -> Iterator[list[Target]]:
    """Run claude-code-router, installed from npm, with a separate home folder."""
    (port,) = free_ports(1)
    home = setup.folder / "router"
    settings_file = home / ".claude-code-router/config.json"
    settings_file.parent.mkdir(parents=True)
    settings_file.write_text(json.dumps(peers.router_config(setup.upstream, port)))
    command = pinned(["node", str(peers.install_router()), "start"])
    environ = {"HOME": str(home)}
    log = setup.folder / "router.log"
    with process(command, log=log, port=port, environ=environ, patience=60) as pid:
        yield [Target(name="router", port=port, pid=pid)]
