"""
The undocumented names of aiohttp that ccproxy uses.

If a new release fails here, follow `docs/aiohttp.md` before the upper bound in pyproject.toml is
raised.
"""

from __future__ import annotations

import inspect
import re
import sys
from functools import partial

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler

from ccproxy.worker import aiohttp_internals
from ccproxy.worker.aiohttp_internals import USED_NAMES
from tests.architecture import ROOT

PRIVATE = re.compile(r"(?<!self)\.(_[a-z]\w*)")


def names_of(kind: type) -> set[str]:
    """Return all attributes that a class and its bases declare or assign."""
    slots = {name for base in kind.__mro__ for name in getattr(base, "__slots__", ())}
    modules = {base.__module__ for base in kind.__mro__ if base.__module__.startswith("aiohttp")}
    source = "".join(inspect.getsource(sys.modules[name]) for name in modules)
    return slots | set(dir(kind)) | set(re.findall(r"self\.(\w+)", source))


@pytest.mark.parametrize("kind", USED_NAMES, ids=lambda kind: kind.__name__)
def test_the_installed_release_has_the_names(kind: type) -> None:
    assert USED_NAMES[kind] - names_of(kind) == set()


def test_a_connector_creates_its_connections_with_the_factory_that_is_replaced() -> None:
    source = inspect.getsource(aiohttp.connector)
    assert "self._factory" in source


async def test_the_factory_is_the_one_of_the_client_protocol() -> None:
    async with aiohttp.TCPConnector() as connector:
        assert isinstance(connector._factory, partial)
        assert connector._factory.func is ResponseHandler


def test_no_other_module_uses_private_names_of_aiohttp() -> None:
    listed = set().union(*USED_NAMES.values())
    private = {name for name in listed if name.startswith("_")}
    offenders = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "ccproxy/worker").rglob("*.py")
        if path.name != "aiohttp_internals.py"
        for name in PRIVATE.findall(path.read_text())
        if name in private and not name.startswith("__")
    ]
    assert offenders == []


def test_the_list_is_used() -> None:
    source = inspect.getsource(aiohttp_internals).partition("}  # fmt: skip")[2]
    private = {name for names in USED_NAMES.values() for name in names if name.startswith("_")}
    assert {name for name in private if name not in source} == set()


def test_the_upper_bound_is_that_of_the_tested_release() -> None:
    major, minor = map(int, aiohttp.__version__.split(".")[:2])
    assert '"aiohttp>=3.13,<3.15"' in (ROOT / "pyproject.toml").read_text()
    assert (3, 13) <= (major, minor) < (3, 15)
