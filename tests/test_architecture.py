"""Every module follows the rules of `tests/architecture.py`, and every rule can fail."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import architecture
from tests.architecture import Module

PRODUCT = [Module.read(path) for path in architecture.modules("ccproxy")]
ALL_CODE = [*PRODUCT, *(Module.read(path) for path in architecture.modules("bench"))]


def violations(rule, modules):
    return [text for module in modules for text in rule(module)]


@pytest.mark.parametrize(
    "rule",
    [
        architecture.imports_point_inwards,
        architecture.narrow_modules_stay_narrow,
        architecture.heavy_libraries_are_imported_late,
        architecture.pure_packages_are_pure,
        architecture.the_host_header_is_not_trusted,
        architecture.providers_are_data,
    ],
    ids=lambda rule: rule.__name__,
)
def test_the_package_keeps(rule):
    assert violations(rule, PRODUCT) == []


@pytest.mark.parametrize(
    "rule",
    [
        architecture.modules_are_short,
        architecture.functions_are_short,
        architecture.functions_are_flat,
        architecture.names_describe_the_content,
        architecture.suppressions_name_their_rule,
    ],
    ids=lambda rule: rule.__name__,
)
def test_all_code_keeps(rule):
    assert violations(rule, ALL_CODE) == []


@pytest.mark.parametrize(
    "rule", [architecture.tests_have_patience, architecture.real_clients_have_folders]
)
def test_tests_keep(rule):
    modules = map(Module.read, architecture.modules("tests"))
    assert violations(rule, modules) == []


def test_packages_hold_a_docstring_only():
    packages = [
        Module.read(path)
        for path in architecture.modules("ccproxy", "bench")
        if path.name == "__init__.py"
    ]
    assert violations(architecture.packages_hold_a_docstring_only, packages) == []


def test_packages_are_small():
    names = [module.name for module in PRODUCT if module.is_module]
    assert list(architecture.packages_are_small(names)) == []


def test_modules_have_unique_names():
    names = [module.name for module in PRODUCT if module.is_module]
    assert list(architecture.names_are_unique(names)) == []


def test_public_classes_have_unique_names():
    names = [f"{module.name}.{name}" for module in PRODUCT for name in module.classes]
    in_packages = [f"{module.rpartition('.')[0]}.{name}" for module, _, name in map(_split, names)]
    repeated = [name for name in set(in_packages) if in_packages.count(name) > 1]
    assert ([*architecture.names_are_unique(in_packages)], repeated) == ([], [])


def _split(name):
    return name.rpartition(".")


def test_imports_have_no_cycle():
    names = {module.name for module in PRODUCT}
    graph = {
        module.name: {name for name in architecture.imports(module.tree) if name in names}
        for module in PRODUCT
    }
    assert list(architecture.import_cycles(graph)) == []


def test_the_rules_include_every_preset():
    assert architecture.preset_names() <= architecture.PROVIDERS | architecture.PROTOCOLS


# Actual imports.


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
            id="the command line starts fast",
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
            "import ccproxy.log_rotation",
            {"msgspec", "structlog"},
            id="rotation works without structlog",
        ),
    ],
)
def test_no_heavy_module_is_loaded(statement, banned):
    assert imported_by(statement) & banned == set()


# Every rule can fail.

LONG = "\n".join(["def long():"] + ["    x = 1"] * 60)
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
        (architecture.imports_point_inwards, "convert.stream", "from ccproxy.keys import pool"),
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
        (architecture.heavy_libraries_are_imported_late, "config.worker", "import structlog"),
        (architecture.pure_packages_are_pure, "convert.stream", "import time"),
        (architecture.pure_packages_are_pure, "keys.pool", "from random import choice"),
        (
            architecture.pure_packages_are_pure,
            "convert.stream",
            "def f():\n    from os import path",
        ),
        (architecture.pure_packages_are_pure, "convert.stream", "print('here')"),
        (architecture.pure_packages_are_pure, "keys.breaker", "async def send(): ..."),
        (architecture.modules_are_short, "worker.app", "x = 1\n" * 701),
        (architecture.functions_are_short, "worker.app", LONG),
        (architecture.functions_are_flat, "worker.app", DEEP),
        (architecture.names_describe_the_content, "worker.utils", ""),
        (architecture.names_describe_the_content, "core.app", ""),
        (architecture.packages_hold_a_docstring_only, "worker", '"""Doc."""\nimport os'),
        (architecture.suppressions_name_their_rule, "a.b", "x  # noqa"),
        (architecture.suppressions_name_their_rule, "a.b", "x  # type: ignore"),
        (architecture.the_host_header_is_not_trusted, "worker.app", HANDLER),
        (
            architecture.the_host_header_is_not_trusted,
            "worker.app",
            HANDLER.replace("url", "host"),
        ),
        (architecture.providers_are_data, "convert.request", "if provider == 'kimi': ..."),
        (architecture.providers_are_data, "convert.request", "if 'deepseek' in model: ..."),
        (architecture.providers_are_data, "convert.request", "x = 1 if url == 'api.x.groq' else 2"),
        (architecture.providers_are_data, "convert.request", "if m.startswith('qwen-'): ..."),
        (architecture.providers_are_data, "convert.request", "[m for m in x if m == 'OpenAI']"),
        (architecture.tests_have_patience, "tests.a", "async with asyncio.timeout(5): ..."),
        (architecture.tests_have_patience, "tests.a", "asyncio.wait_for(call.gone.wait(), 1)"),
        (architecture.real_clients_have_folders, "cli.test_run", "@pytest.mark." + "claude"),
        (
            architecture.providers_are_data,
            "worker.app",
            "match provider:\n    case 'azure': ...",
        ),
    ],
)
def test_a_violation_is_found(rule, name, source):
    assert list(rule(Module(f"ccproxy.{name}", source)))


@pytest.mark.parametrize(
    ("rule", "name", "source"),
    [
        (architecture.imports_point_inwards, "convert.stream", "from ccproxy.protocol import sse"),
        (architecture.imports_point_inwards, "cli.version", "from ccproxy import __version__"),
        (architecture.heavy_libraries_are_imported_late, "cli.table", "def f():\n    import rich"),
        (architecture.pure_packages_are_pure, "worker.app", "import time"),
        (architecture.functions_are_short, "worker.app", SHORT),
        (architecture.functions_are_flat, "worker.app", ELIFS),
        (architecture.suppressions_name_their_rule, "a.b", "x  # noqa: S603 - ours"),
        (
            architecture.the_host_header_is_not_trusted,
            "worker.app",
            HANDLER.replace("url", "path"),
        ),
        (architecture.tests_have_patience, "tests.a", "asyncio.wait_for(call.gone.wait(), 30)"),
        (architecture.providers_are_data, "worker.app", "if 'anthropic-beta' in headers: ..."),
        (architecture.providers_are_data, "convert.quirks", "'Kimi says so'"),
        (architecture.providers_are_data, "convert.schema", "if dialect == 'gemini': ..."),
        (architecture.functions_are_short, "cli.logs", "@option(\n" + "\n" * 60 + ")\n" + SHORT),
    ],
)
def test_allowed_code_passes(rule, name, source):
    assert list(rule(Module(f"ccproxy.{name}", source))) == []


def test_a_cycle_is_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}
    assert list(architecture.import_cycles(graph)) == ["b -> c -> b"]


def test_a_large_package_is_found():
    names = [f"ccproxy.worker.module{number}" for number in range(17)]
    assert list(architecture.packages_are_small(names)) == [
        "ccproxy.worker holds 17 modules, more than 16"
    ]
    assert list(architecture.packages_are_small(names[:16])) == []


def test_a_repeated_name_is_found_except_in_two_dialects():
    names = ["ccproxy.worker.usage", "ccproxy.store.usage", "ccproxy.worker.server.__init__"]
    assert list(architecture.names_are_unique(names)) == [
        "usage is defined in ccproxy.store, ccproxy.worker"
    ]
    from_outside = ["ccproxy.store.usage", "ccproxy.cli.commands.inspect.usage"]
    assert list(architecture.names_are_unique(from_outside)) == []
    dialects = ["ccproxy.convert.chat.request", "ccproxy.convert.responses.request"]
    assert list(architecture.names_are_unique(dialects)) == []
