"""Every module keeps the rules of `tests/architecture.py`, and every rule can be broken."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import architecture
from tests.architecture import Module

OURS = architecture.modules("ccproxy")
SHAPED = architecture.modules("ccproxy", "bench")

RULES_OF_THE_PACKAGE = [
    architecture.imports_point_inwards,
    architecture.narrow_modules_stay_narrow,
    architecture.heavy_libraries_are_imported_late,
    architecture.pure_parts_are_pure,
    architecture.workers_do_not_trust_the_host_header,
    architecture.providers_are_data,
]
RULES_OF_SHAPE = [
    architecture.modules_are_short,
    architecture.functions_are_short,
    architecture.functions_are_flat,
    architecture.names_say_what_is_inside,
    architecture.exceptions_to_the_checkers_name_their_rule,
]


def name_of(value):
    return value.__name__ if callable(value) else str(value.relative_to(architecture.ROOT))


@pytest.mark.parametrize("path", OURS, ids=name_of)
@pytest.mark.parametrize("rule", RULES_OF_THE_PACKAGE, ids=name_of)
def test_the_package_keeps(rule, path):
    assert list(rule(Module.read(path))) == []


@pytest.mark.parametrize("path", SHAPED, ids=name_of)
@pytest.mark.parametrize("rule", RULES_OF_SHAPE, ids=name_of)
def test_all_code_keeps(rule, path):
    assert list(rule(Module.read(path))) == []


@pytest.mark.parametrize(
    "path", [path for path in SHAPED if path.name == "__init__.py"], ids=name_of
)
def test_packages_hold_a_docstring_only(path):
    assert list(architecture.packages_hold_a_docstring_only(Module.read(path))) == []


def test_imports_have_no_cycle():
    names = {Module.read(path).name: Module.read(path) for path in OURS}
    graph = {
        name: {imported for imported in architecture.imports(module.tree) if imported in names}
        for name, module in names.items()
    }
    assert len(graph) == len(OURS)
    assert list(architecture.import_cycles(graph)) == []


def test_the_rules_know_every_preset():
    known = architecture.PROVIDERS | architecture.PROTOCOLS
    assert architecture.preset_names() <= known


# What a command or a part really imports, whoever asked for it.


def imported_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split() if "." not in name or name.startswith("ccproxy.")}


@pytest.mark.parametrize(
    ("statement", "banned"),
    [
        pytest.param(
            "import ccproxy.cli.main",
            {"aiohttp", "structlog", "msgspec", "psutil", "rich", "uvloop", "ccproxy.worker"},
            id="the command line starts light",
        ),
        pytest.param(
            "import ccproxy.config.fleet",
            {"msgspec", "aiohttp", "ccproxy.convert", "ccproxy.providers", "ccproxy.protocol"},
            id="the table is read without the conversion",
        ),
        pytest.param(
            "import ccproxy.supervisor.__main__",
            {"aiohttp", "structlog", "uvloop", "ccproxy.worker"},
            id="the supervisor does not need the worker's libraries",
        ),
        pytest.param(
            "import ccproxy.logs", {"msgspec", "structlog"}, id="rotation works without structlog"
        ),
    ],
)
def test_nothing_heavy_is_loaded(statement, banned):
    assert imported_by(statement) & banned == set()


# Every rule bites.

LONG = "\n".join(["def long():"] + ["    x = 1"] * 49)
SHORT = LONG.removesuffix("\n    x = 1")
DEEP = """
def deep(a):
    for b in a:
        if b:
            with b:
                while b:
                    if b:
                        b()
"""
HANDLER = "async def handle(request): return request.url"
ELIFS = """
def flat(a):
    if a == 1:
        a()
    elif a == 2:
        a()
    elif a == 3:
        a()
    elif a == 4:
        a()
    elif a == 5:
        a()
"""


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (architecture.imports_point_inwards, "protocol.sse", "import ccproxy.convert.chat.stream"),
        (architecture.imports_point_inwards, "protocol.sse", "from ccproxy import convert"),
        (architecture.imports_point_inwards, "convert.stream", "from ccproxy.keys import keys"),
        (architecture.imports_point_inwards, "supervisor.host", "from ccproxy.worker import app"),
        (architecture.imports_point_inwards, "worker.app", "import ccproxy.supervisor"),
        (architecture.imports_point_inwards, "supervisor.host", "import aiohttp"),
        (architecture.imports_point_inwards, "convert.stream", "import aiohttp.web"),
        (architecture.imports_point_inwards, "cli.start", "def start():\n    import structlog"),
        (architecture.imports_point_inwards, "convert.stream", "from . import tools"),
        (architecture.imports_point_inwards, "cellar", "import ccproxy.errors"),
        (architecture.narrow_modules_stay_narrow, "config.fleet", "import msgspec"),
        (
            architecture.narrow_modules_stay_narrow,
            "config.fleet",
            "import ccproxy.providers.quirks",
        ),
        (architecture.heavy_libraries_are_imported_late, "cli.table", "import rich.table"),
        (architecture.heavy_libraries_are_imported_late, "logs", "import structlog"),
        (architecture.pure_parts_are_pure, "convert.stream", "import time"),
        (architecture.pure_parts_are_pure, "keys.pool", "from random import choice"),
        (architecture.pure_parts_are_pure, "convert.stream", "def f():\n    from os import path"),
        (architecture.pure_parts_are_pure, "convert.stream", "print('here')"),
        (architecture.pure_parts_are_pure, "keys.breaker", "async def send(): ..."),
        (architecture.modules_are_short, "worker.app", "x = 1\n" * 401),
        (architecture.functions_are_short, "worker.app", LONG),
        (architecture.functions_are_flat, "worker.app", DEEP),
        (architecture.names_say_what_is_inside, "worker.utils", ""),
        (architecture.names_say_what_is_inside, "core.app", ""),
        (architecture.packages_hold_a_docstring_only, "worker", '"""Doc."""\nimport os'),
        (architecture.exceptions_to_the_checkers_name_their_rule, "a.b", "x  # noqa"),
        (architecture.exceptions_to_the_checkers_name_their_rule, "a.b", "x  # type: ignore"),
        (architecture.workers_do_not_trust_the_host_header, "worker.app", HANDLER),
        (
            architecture.workers_do_not_trust_the_host_header,
            "worker.app",
            HANDLER.replace("url", "host"),
        ),
        (architecture.providers_are_data, "convert.request", "if provider == 'kimi': ..."),
        (architecture.providers_are_data, "convert.request", "if 'deepseek' in model: ..."),
        (architecture.providers_are_data, "convert.request", "x = 1 if url == 'api.x.groq' else 2"),
        (architecture.providers_are_data, "convert.request", "if m.startswith('qwen-'): ..."),
        (architecture.providers_are_data, "convert.request", "[m for m in x if m == 'OpenAI']"),
        (
            architecture.providers_are_data,
            "worker.app",
            "match provider:\n    case 'azure': ...",
        ),
    ],
)
def test_bites(rule, name, source):
    assert list(rule(Module(f"ccproxy.{name}", source)))


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (architecture.imports_point_inwards, "convert.stream", "from ccproxy.protocol import sse"),
        (architecture.imports_point_inwards, "cli.version", "from ccproxy import __version__"),
        (architecture.heavy_libraries_are_imported_late, "cli.table", "def f():\n    import rich"),
        (architecture.pure_parts_are_pure, "worker.app", "import time"),
        (architecture.functions_are_short, "worker.app", SHORT),
        (architecture.functions_are_flat, "worker.app", ELIFS),
        (architecture.exceptions_to_the_checkers_name_their_rule, "a.b", "x  # noqa: S603 - ours"),
        (
            architecture.workers_do_not_trust_the_host_header,
            "worker.app",
            HANDLER.replace("url", "path"),
        ),
        (architecture.providers_are_data, "worker.app", "if 'anthropic-beta' in headers: ..."),
        (architecture.providers_are_data, "convert.quirks", "'Kimi says so'"),
        (architecture.providers_are_data, "convert.schema", "if dialect == 'gemini': ..."),
        (architecture.functions_are_short, "cli.logs", "@option(\n" + "\n" * 60 + ")\n" + SHORT),
    ],
)
def test_lets_pass(rule, name, source):
    assert list(rule(Module(f"ccproxy.{name}", source))) == []


def test_a_cycle_is_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}
    assert list(architecture.import_cycles(graph)) == ["b -> c -> b"]
