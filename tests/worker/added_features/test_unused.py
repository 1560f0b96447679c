"""A worker that uses none of the added features does not load them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fleet import ROOT

SESSION = """
import asyncio, pathlib, sys, tempfile
from ccproxy.worker import __main__
from tests.messages import prompt
from tests.provider import Provider
from tests.worker.proxy import running

READ = {"name": "Read", "input_schema": {"type": "object"}}

async def main(folder, settings):
    async with Provider() as provider:
        async with running(pathlib.Path(folder), provider.url, **settings) as proxy:
            for stream in (False, True):
                answer = await proxy.ask(prompt("Hello", tools=[READ], stream=stream))
                assert answer.status == 200, answer.error

with tempfile.TemporaryDirectory() as folder:
    asyncio.run(main(folder, dict(each.split("=") for each in sys.argv[1:])))
print(*sys.modules)
"""
DETECTION = {
    "ccproxy.convert.added_features",
    "ccproxy.convert.added_features.deferred_tools",
    "ccproxy.convert.added_features.search_tool",
}
"""Modules that check whether a request needs a feature."""


def loaded(*settings: str) -> set[str]:
    """Return the optional modules that a worker has loaded for two requests."""
    command = [sys.executable, "-c", SESSION, *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    optional = (".added_features", ".probing", ".admin.replay", "ccproxy.providers.measurement")
    return {name for name in done.stdout.split() if any(part in name for part in optional)}


@pytest.mark.parametrize("api", ["chat", "messages"])
def test_nothing_is_loaded_without_the_settings(api):
    assert loaded(f"PROVIDER_API={api}") <= DETECTION


def test_each_setting_loads_its_modules():
    modules = loaded("AUTO_MODE_MODEL=big", "VISION=big", "AUTO_PROBE=1")
    assert "ccproxy.worker.added_features.auto_mode" in modules
    assert "ccproxy.worker.added_features.description_store" in modules
    assert "ccproxy.worker.probing.auto_probe" in modules
