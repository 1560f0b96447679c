"""Start-up, memory of many workers, and commands, measured through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from bench import clocks
from bench.targets import Setup, free_ports, write_settings

CCPROXY = (sys.executable, "-m", "ccproxy")
REPEATS = 7


def commands(setup: Setup) -> dict[str, float]:
    """Return the milliseconds that each command takes: the fastest of several runs."""
    home = _home(setup, workers=1)
    _ccproxy(home, "start")
    try:
        return {
            f"ccproxy {' '.join(words)}": min(_timed(home, *words) for _ in range(REPEATS)) * 1e3
            for words in (("--help",), ("status",), ("status", "--json"), ("check",))
        }
    finally:
        _ccproxy(home, "stop")


def start_up(setup: Setup, workers: int) -> dict[str, float]:
    """Start a fleet of *workers*; return its start-up time and idle memory."""
    home = _home(setup, workers=workers)
    try:
        seconds = _timed(home, "start")
        status = json.loads(_ccproxy(home, "status", "--json"))
        pids = [pid for proxy in status["proxies"] for pid in proxy["pids"]]
        ready = sum(proxy["state"] == "ready" for proxy in status["proxies"])
        return {
            "seconds": seconds,
            "ready": ready,
            "proportional_mib": clocks.proportional_mib(pids),
            "resident_mib_each": clocks.resident_mib(pids) / max(1, len(pids)),
        }
    finally:
        _ccproxy(home, "stop")


def _home(setup: Setup, *, workers: int) -> Path:
    home = setup.folder / f"fleet-{workers}-{time.monotonic_ns()}"
    (home / "envs").mkdir(parents=True)
    write_settings(home / "envs/bench.env", setup.upstream)
    ports = free_ports(workers)
    lines = [f'  "{port}:envs/bench.env:bench-{n}",' for n, port in enumerate(ports)]
    (home / "ccproxy.toml").write_text("\n".join(["proxies = [", *lines, "]", ""]))
    return home


def _ccproxy(home: Path, *words: str) -> str:
    command = [*CCPROXY, "--config", str(home / "ccproxy.toml"), *words]
    root = str(Path(__file__).parent.parent)
    environ = {**os.environ, "PYTHONPATH": root, "NO_COLOR": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environ, check=True
    )
    return done.stdout


def _timed(home: Path, *words: str) -> float:
    began = time.perf_counter()
    _ccproxy(home, *words)
    return time.perf_counter() - began
