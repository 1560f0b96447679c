"""The data of the live view."""

from __future__ import annotations

from contextlib import closing

import pytest

from ccproxy.cli.top.fleet_view import FleetView
from ccproxy.config.fleet import Fleet
from ccproxy.ipc.activity import ActivityEvent
from tests.cli.top.test_view_text import request


@pytest.fixture
def view(tmp_path):
    fleet = Fleet(home=tmp_path, file=tmp_path / "ccproxy.toml", entries=())
    with closing(FleetView(fleet)) as view:
        yield view


def event(name, one):
    return ActivityEvent(event=name, at=one.started, label=one.label, request=one)


def test_a_request_is_either_running_or_finished(view):
    """The dashboard could not show it twice: the rows of a table have unique keys."""
    finished = request(1)
    running = request(1, state="running")
    view._take([event("request.finished", finished), event("request.started", running)])
    assert (view.snapshot().running, view.snapshot().recent) == ((), (finished,))
