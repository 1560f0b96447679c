"""
The rules of the architecture. Each is a function that returns the violations in a module's source.

`test_architecture.py` applies every rule to every module and proves that every rule can fail.
`docs/architecture.md` describes the layers.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parent.parent

_PURE_LAYERS = ("protocol", "providers", "convert", "keys", "routing")
_FOUNDATION = {"bounded_dict", "errors", "files", "text"}
_LOGS = {"log_rotation", "redaction", "log_format", "build"}

# For each package: the packages and the libraries that it may import. Packages are the top-level
# names below `ccproxy`; every package may import itself.
MAY_IMPORT: dict[str, tuple[set[str], set[str]]] = {
    "bounded_dict": (set(), set()),
    "errors": (set(), set()),
    "text": (set(), set()),
    "files": (set(), set()),
    "build": (set(), set()),
    "redaction": ({"text"}, set()),
    "log_rotation": ({"files", "text"}, set()),
    "log_format": ({"text"}, set()),
    "ipc": (_FOUNDATION, {"msgspec"}),
    "protocol": (_FOUNDATION, {"msgspec"}),
    "providers": (_FOUNDATION | {"protocol"}, {"msgspec"}),
    "convert": (_FOUNDATION | {"protocol", "providers"}, {"msgspec"}),
    "keys": (_FOUNDATION | {"protocol", "providers", "convert"}, {"msgspec"}),
    "routing": (_FOUNDATION | {"protocol", "providers", "convert"}, {"msgspec"}),
    "config": (_FOUNDATION | set(_PURE_LAYERS), {"dotenv", "msgspec"}),
    "store": (_FOUNDATION | {"routing"}, {"msgspec", "psutil"}),
    "worker": (
        _FOUNDATION | _LOGS | set(_PURE_LAYERS) | {"config", "ipc", "store"},
        {
            "aiohttp",
            "hiredis",
            "msgspec",
            "multidict",
            "opentelemetry",
            "pypdfium2",
            "requests",
            "setproctitle",
            "structlog",
            "uvloop",
            "yarl",
        },
    ),
    "supervisor": (_FOUNDATION | _LOGS | {"config", "ipc", "store"}, {"psutil"}),
    "cli": (
        _FOUNDATION
        | _LOGS
        | {"config", "ipc", "providers", "routing", "store", "statusline", "supervisor"},
        # dotenv: `keys add` and `remove` edit env files line by line.
        {"click", "dotenv", "prompt_toolkit", "psutil", "rich", "textual", "yaml"},
    ),
    "statusline": ({"text", "ipc"}, set()),
    # The page may use the commands' code. No command imports it: `ccproxy ui` starts its process.
    "ui": (
        _FOUNDATION
        | {"cli", "config", "convert", "ipc", "protocol", "routing", "store", "supervisor"},
        {"aiohttp", "click", "msgspec"},
    ),
    "__main__": ({"cli"}, set()),
}
PATIENCE = 30
"""The shortest time limit in a test, in seconds."""
PURE = {"bounded_dict", "errors", "text", *_PURE_LAYERS}
# Modules in pure packages that may read files or share memory.
IMPURE_MODULES = {
    "ccproxy.keys.backends.shared_memory",
    "ccproxy.providers.presets",
    "ccproxy.providers.search_backends",
}
IMPURE = {
    "asyncio",
    "datetime",
    "logging",
    "os",
    "random",
    "secrets",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uuid",
}
IMPURE_CALLS = {"breakpoint", "exec", "eval", "input", "open", "print"}
# The CLI reads the table on every call, so these modules must be fast to import.
MODULE_MUST_NOT_IMPORT = {
    f"ccproxy.config.{name}": {
        "msgspec",
        "ccproxy.convert",
        "ccproxy.providers",
        "ccproxy.protocol",
    }
    for name in ("fleet", "locations")
}
# To be imported only in functions; at the top of a module they would slow down `ccproxy --help`.
LAZY = {
    "cli": {
        "aiohttp",
        "msgspec",
        "prompt_toolkit",
        "psutil",
        "rich",
        "sqlite3",
        "structlog",
        "textual",
        "yaml",
    },
    "config": {"aiohttp", "psutil", "structlog"},
}
# Modules that are themselves imported only in functions.
IMPORTED_LATE = {"ccproxy.cli.top.dashboard"}
FORBIDDEN_NAMES = {"base", "constants", "core", "helpers", "manager", "misc", "utils"}
MODULE_LINES = 700
PACKAGE_MODULES = 16
FUNCTION_LINES = 60
NESTING = 4
# These packages contain the same concepts for different dialects, so they may repeat names.
DIALECT_PACKAGES = (
    "ccproxy.protocol",
    "ccproxy.convert.chat",
    "ccproxy.convert.direct",
    "ccproxy.convert.responses",
)
# Modules of these packages are named after a command or a path, so names may be repeated.
NAMED_FROM_OUTSIDE = ("ccproxy.cli.commands", "ccproxy.worker.server.endpoints")

PROVIDERS = frozenset({
    "azure", "baseten", "bigmodel", "cerebras", "chutes", "copilot", "deepinfra", "deepseek",
    "demo", "doubao", "fireworks", "gemini", "groq", "huggingface", "kimi", "kimi-code",
    "llamacpp", "lmstudio", "longcat", "mimo", "minimax", "mistral", "modelscope", "nebius", "nim",
    "novita", "ollama", "ollama-cloud", "opencode", "opencode-go", "openrouter", "qwen",
    "requesty", "sglang", "siliconflow", "stepfun", "tencent", "vercel", "vllm", "xai", "zai",
})  # fmt: skip
# Also the names of protocols, or common words: only the bare word is the provider.
PROTOCOLS = frozenset({"anthropic", "meta", "openai", "together"})
# The values of these quirks are named after the provider that introduced them.
DIALECTS = frozenset({"dialect", "history", "reasoning", "schema"})


def preset_names() -> frozenset[str]:
    """Return the names of the provider presets."""
    presets = tomllib.loads((ROOT / "ccproxy/providers/providers.toml").read_text())
    return frozenset(presets)


@dataclass(frozen=True)
class Module:
    """A module's name and source; `is_module` is False for a package's `__init__`."""

    name: str
    source: str
    is_module: bool = True

    @classmethod
    def read(cls, path: Path) -> Module:
        """Read the module at *path*."""
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        return cls(name, path.read_text(), is_module=path.stem != "__init__")

    @property
    def package(self) -> str:
        """The top-level name below `ccproxy`; empty for the root itself."""
        return package_of(self.name)

    @property
    def classes(self) -> list[str]:
        """The names of the public classes at the top level."""
        classes = [node.name for node in self.tree.body if isinstance(node, ast.ClassDef)]
        return [name for name in classes if not name.startswith("_")]

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed source."""
        return ast.parse(self.source)


def package_of(name: str) -> str:
    """Return the top-level package that the module *name* belongs to."""
    return name.split(".")[1] if "." in name else ""


def modules(*roots: str) -> list[Path]:
    """Return every module below *roots*, without the results of benchmark runs."""
    paths = sorted(path for root in roots for path in (ROOT / root).rglob("*.py"))
    return [path for path in paths if not path.is_relative_to(ROOT / "bench/results")]


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield every module imported anywhere in *tree*, also for type checking."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            # `from ccproxy import errors` imports a module, `from ccproxy import __version__` none.
            names = [f".{alias.name}" for alias in node.names] if module == "ccproxy" else [""]
            yield from (module + name for name in names if not name.startswith(".__"))


def eager_imports(tree: ast.Module) -> Iterator[str]:
    """Yield the imports that run when the module is imported."""
    for node in tree.body:
        for_checkers = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if isinstance(node, _RUNS_ON_IMPORT) and not for_checkers:
            yield from imports(node)


_RUNS_ON_IMPORT = (ast.Import, ast.ImportFrom, ast.If, ast.Try, ast.With)


# Imports.


def imports_point_inwards(module: Module) -> Iterator[str]:
    """A package imports only itself, the packages below it, and its permitted libraries."""
    all_libraries = set().union(*(libraries for _, libraries in MAY_IMPORT.values()))
    packages, libraries = MAY_IMPORT.get(module.package, (set(), set()))
    packages = packages | {module.package} if module.package in MAY_IMPORT else set()
    for name in imports(module.tree):
        top = name.split(".")[0]
        if name.startswith("."):
            yield f"{module.name} must import absolutely, not {name}"
        elif (
            top == "ccproxy" and package_of(name) not in packages
        ) or top in all_libraries - libraries:
            yield f"{module.package} must not import {name}"


def narrow_modules_stay_narrow(module: Module) -> Iterator[str]:
    """Some modules may import less than the rest of their package."""
    banned = MODULE_MUST_NOT_IMPORT.get(module.name, set())
    for name in imports(module.tree):
        if any(name == one or name.startswith(one + ".") for one in banned):
            yield f"{module.name} must not import {name}"


def heavy_libraries_are_imported_late(module: Module) -> Iterator[str]:
    """Libraries that are slow to import are imported in the functions that use them."""
    if module.name in IMPORTED_LATE:
        return
    for name in eager_imports(module.tree):
        if name.split(".")[0] in LAZY.get(module.package, ()):
            yield f"{module.name} must import {name} inside the function that needs it"


def pure_packages_are_pure(module: Module) -> Iterator[str]:
    """Pure packages have no I/O, clock, randomness, environment or logging."""
    if module.package not in PURE or module.name in IMPURE_MODULES:
        return
    for name in imports(module.tree):
        if name.split(".")[0] in IMPURE:
            yield f"{module.package} is pure: no {name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in IMPURE_CALLS:
                yield f"{module.package} is pure: no {node.func.id}()"
        elif isinstance(node, ast.AsyncFunctionDef):
            yield f"{module.package} is pure: {node.name} must not be async"


def import_cycles(graph: dict[str, set[str]]) -> Iterator[str]:
    """Yield the import chains that return to their first module."""
    done: set[str] = set()

    def visit(name: str, chain: tuple[str, ...]) -> Iterator[str]:
        if name in chain:
            yield " -> ".join((*chain[chain.index(name) :], name))
        elif name not in done:
            for imported in sorted(graph.get(name, ())):
                yield from visit(imported, (*chain, name))
            done.add(name)

    for name in sorted(graph):
        yield from visit(name, ())


# Shape.


def modules_are_short(module: Module) -> Iterator[str]:
    """A module contains one concept; a very long module contains several."""
    lines = module.source.count("\n")
    if lines > MODULE_LINES:
        yield f"{module.name} has {lines} lines, more than {MODULE_LINES}"


def packages_are_small(names: Iterable[str]) -> Iterator[str]:
    """A package with many modules needs sub-packages; *names* are the names of all modules."""
    modules_of = defaultdict(list)
    for name in names:
        modules_of[name.rpartition(".")[0]].append(name)
    for package, members in sorted(modules_of.items()):
        if len(members) > PACKAGE_MODULES:
            yield f"{package} holds {len(members)} modules, more than {PACKAGE_MODULES}"


def names_are_unique(names: Iterable[str]) -> Iterator[str]:
    """Two modules or classes share a name only for the same concept in two dialects."""
    homes = defaultdict(set)
    for name in names:
        package, _, base = name.rpartition(".")
        if package.startswith(NAMED_FROM_OUTSIDE):
            continue
        homes[base].add("dialects" if package in DIALECT_PACKAGES else package)
    for base, packages in sorted(homes.items()):
        if len(packages) > 1 and base not in ("__init__", "__main__"):
            yield f"{base} is defined in {', '.join(sorted(packages))}"


def functions_are_short(module: Module) -> Iterator[str]:
    """Functions are short, from `def` to the last line, without decorators."""
    for function in _functions(module.tree):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > FUNCTION_LINES:
            yield f"{module.name}.{function.name} has {lines} lines, more than {FUNCTION_LINES}"


def functions_are_flat(module: Module) -> Iterator[str]:
    """Nesting is shallow, counted from the function; an `elif` is as deep as its `if`."""
    for function in _functions(module.tree):
        depth = max((_depth(node) for node in function.body), default=0)
        if depth > NESTING:
            yield f"{module.name}.{function.name} nests {depth} deep, more than {NESTING}"


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


_BLOCKS = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match,
)  # fmt: skip


def _depth(node: ast.AST) -> int:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return 0  # counted separately
    here = 1 if isinstance(node, _BLOCKS) else 0
    children = list(ast.iter_child_nodes(node))
    match node:
        case ast.If(orelse=[ast.If() as elif_]):
            children.remove(elif_)
            return max(_depth(elif_), here + max(map(_depth, children), default=0))
    return here + max(map(_depth, children), default=0)


def names_describe_the_content(module: Module) -> Iterator[str]:
    """No module is a collection of unrelated things."""
    for term in module.name.split("."):
        if term in FORBIDDEN_NAMES:
            yield f"{module.name}: no module is called {term}"


def packages_hold_a_docstring_only(module: Module) -> Iterator[str]:
    """An `__init__.py` only describes its package; the root's also contains the version."""
    for node in module.tree.body[1:]:
        is_version = module.name == "ccproxy" and "__version__" in ast.dump(node)
        if not is_version:
            yield f"{module.name}.__init__ holds more than its docstring (line {node.lineno})"


def suppressions_name_their_rule(module: Module) -> Iterator[str]:
    """A suppression without a rule hides more than intended."""
    for number, line in enumerate(module.source.splitlines(), 1):
        if re.search(r"#\s*(noqa(?!: [A-Z])|type: ignore(?!\[))", line):
            yield f"{module.name}:{number} suppresses a checker without naming the rule"


# Content.


def the_host_header_is_not_trusted(module: Module) -> Iterator[str]:
    """`request.url` contains the client's Host header; decisions use only route and path."""
    handlers = _functions(module.tree) if module.package == "worker" else ()
    for handler in handlers:
        arguments = [*handler.args.posonlyargs, *handler.args.args, *handler.args.kwonlyargs]
        names = {argument.arg for argument in arguments} & {"request", "req"}
        for node in ast.walk(handler):
            match node:
                case ast.Attribute(value=ast.Name(id=name), attr="url" | "host") if name in names:
                    yield f"{module.name}:{node.lineno} decides on request.{node.attr}"


def providers_are_data(module: Module) -> Iterator[str]:
    """Behaviour depends on quirks in `providers.toml`, not on the name of a provider."""
    dialects = {id(term) for term in _compared_with_a_dialect(module.tree)}
    for condition in _conditions(module.tree):
        for node in ast.walk(condition):
            if id(node) in dialects or not isinstance(node, ast.Constant):
                continue
            for term in _providers_in(str(node.value).lower()):
                yield f"{module.name}:{node.lineno} decides by the provider's name {term!r}"


def _providers_in(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text)) & PROVIDERS | {text} & PROTOCOLS


def _compared_with_a_dialect(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the comparisons with quirk values that are named after a provider."""
    for node in ast.walk(tree):
        subject = getattr(node, "left" if isinstance(node, ast.Compare) else "subject", None)
        if subject is not None and ast.unparse(subject).split(".")[-1] in DIALECTS:
            yield from ast.walk(node)


def _conditions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        match node:
            case ast.If() | ast.IfExp() | ast.While():
                yield node.test
            case ast.Compare() | ast.MatchValue():
                yield node
            case ast.comprehension():
                yield from node.ifs


# Tests.


def tests_have_patience(module: Module) -> Iterator[str]:
    """Limits only end hung tests, because a busy machine can delay a test for seconds."""
    for node in ast.walk(module.tree):
        match node:
            case (
                ast.Call(func=ast.Attribute(attr="timeout"), args=[ast.Constant(value=limit)])
                | ast.Call(func=ast.Attribute(attr="settimeout"), args=[ast.Constant(value=limit)])
                | ast.Call(func=ast.Attribute(attr="wait_for"), args=[_, ast.Constant(value=limit)])
            ) if isinstance(limit, int | float) and 0 < limit < PATIENCE:
                yield f"{module.name}:{node.lineno} waits {limit} s, less than {PATIENCE}"


def real_clients_have_folders(module: Module) -> Iterator[str]:
    """Tests of real clients are in the folders of `make test-claude` and `make test-codex`."""
    for client in re.findall(r"mark\.(claude|codex)\b", module.source):
        if not module.name.startswith(f"tests.{client}."):
            yield f"{module.name} has a test of {client} outside of tests/{client}"
