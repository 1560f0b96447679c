"""Requests of the command line to workers: which processes are asked, and what silence means."""

from __future__ import annotations

import os
import signal

import pytest

from ccproxy.errors import CcproxyError, NotRunning
from ccproxy.supervisor.control import worker_requests
from ccproxy.supervisor.control.worker_requests import ask_about_keys, running_processes
from tests.supervisor.conftest import Home


def test_the_processes_of_an_entry_are_found_without_regard_to_case(home: Home) -> None:
    home.add("Kimi", workers=2)
    home.start()
    records = running_processes(home.fleet, "kimi")
    assert [record.index for record in records] == [1, 2]
    assert tuple(record.identity.pid for record in records) == home.row("Kimi").pids


def test_an_entry_without_processes_is_not_running(home: Home) -> None:
    home.add("Kimi")
    with pytest.raises(NotRunning, match="Kimi is not running\n  fix: ccproxy start Kimi"):
        ask_about_keys(home.fleet, "Kimi", "list")


def test_a_worker_that_does_not_answer_is_not_called_stopped(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example while another program keeps its database locked."""
    monkeypatch.setattr(worker_requests, "LIMIT", 0.2)
    home.add("Kimi")
    home.start()
    pid = home.pid("Kimi")
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(CcproxyError) as caught:
        ask_about_keys(home.fleet, "Kimi", "list")
    os.kill(pid, signal.SIGCONT)
    assert not isinstance(caught.value, NotRunning)
    text = str(caught.value)
    assert text.startswith("Kimi runs but does not answer (")
    assert "no answer within 0.2 s" in text
    assert "fix: see what it waits for: ccproxy logs Kimi" in text
