"""Packet loss: a dead connection loses no request, and a lost packet no stream."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.fleet import ROOT

IN_NAMESPACE = ["unshare", "--map-root-user", "--net"]


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """The results of each scenario of `packet_loss.py`."""
    if not all(map(shutil.which, ("unshare", "nft", "ip"))):
        pytest.skip("needs unshare, nft and ip")
    if subprocess.run([*IN_NAMESPACE, "nft", "add", "table", "t"], capture_output=True).returncode:
        pytest.skip("this user may not create a network with packet filters")
    command = [*IN_NAMESPACE, sys.executable, "-m", "tests.worker.upstream.packet_loss"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcomes: dict[str, Any] = json.loads(done.stdout)
    return outcomes


def test_dead_connections_in_the_pool_are_closed_and_cost_no_request(results):
    assert results["pooled_connections"] == {"dead": 10, "statuses": [200, 200], "calls": 2}


def test_a_stream_survives_temporary_packet_loss(results):
    assert results["short_loss"] == {"status": 200, "text": "one two"}


def test_a_provider_that_disappears_ends_the_stream_and_blocks_nothing(results):
    outcome = results["long_loss"]
    assert (outcome["health"], outcome["error"], outcome["text"]) == (200, "api_error", "one ")
    assert outcome["after"] == 200
