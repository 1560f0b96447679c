"""
What the worker leans on inside aiohttp, beyond its public interface.

A new version of aiohttp that fails here needs a look at `wire.py`, `http.py` and `responses.py`
before the upper bound in pyproject.toml is lifted.
"""

from __future__ import annotations

import inspect
from functools import partial

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from aiohttp.web_protocol import RequestHandler

from tests.architecture import ROOT


def names_of(kind):
    """Every name that a class or its instances have, from the classes' own declarations."""
    slots = {name for base in kind.__mro__ for name in getattr(base, "__slots__", ())}
    return slots | set(dir(kind))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        pytest.param(
            ResponseHandler,
            {"data_received", "connection_lost", "set_response_params", "read", "transport"}
            | {"resume_reading", "_reading_paused"},
            id="the client's connection",
        ),
        pytest.param(
            RequestHandler,
            {"connection_made", "connection_lost", "close", "_manager", "_messages"}
            | {"_request_in_progress", "keep_alive", "resume_reading", "_reading_paused"},
            id="the server's connection",
        ),
        pytest.param(
            aiohttp.web.StreamResponse,
            {"_payload_writer", "_keep_alive", "prepare"},
            id="an answer",
        ),
    ],
)
def test_names(kind, names):
    assert names - names_of(kind) == set()


async def test_a_connector_makes_its_protocol_by_the_factory_that_the_wire_replaces():
    async with aiohttp.TCPConnector() as connector:
        assert isinstance(connector._factory, partial)
        assert connector._factory.func is ResponseHandler


def test_the_factory_is_read_at_each_connection():
    source = inspect.getsource(aiohttp.TCPConnector)
    assert "self._factory" in source


def test_the_upper_bound_stands():
    major, minor = map(int, aiohttp.__version__.split(".")[:2])
    assert '"aiohttp>=3.13,<3.15"' in (ROOT / "pyproject.toml").read_text()
    assert (3, 13) <= (major, minor) < (3, 15)
