"""
The rules of the house, each a function from a module's source to complaints.

`test_architecture.py` holds every module against every rule, and every rule against a piece of
source that breaks it.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Who may import whom, and which libraries. Parts are the top-level names below `ccproxy`.
MAY_IMPORT: dict[str, tuple[set[str], set[str]]] = {
    "errors": (set(), set()),
    "protocol": ({"errors", "protocol"}, {"msgspec"}),
    "providers": ({"errors", "protocol", "providers"}, {"msgspec"}),
    "convert": ({"errors", "protocol", "providers", "convert"}, {"msgspec"}),
    "keys": ({"errors", "protocol", "providers", "convert", "keys"}, {"msgspec"}),
    "routing": ({"errors", "protocol", "providers", "convert", "routing"}, {"msgspec"}),
    "config": (
        {"errors", "protocol", "providers", "convert", "keys", "routing", "files", "config"},
        {"dotenv", "msgspec"},
    ),
    "logs": ({"errors", "files"}, {"msgspec", "structlog"}),
    "files": (set(), set()),
    "readable": (set(), set()),
    "build": (set(), set()),
    "store": ({"errors", "store"}, set()),
    "worker": (
        {
            "errors",
            "protocol",
            "convert",
            "providers",
            "keys",
            "routing",
            "config",
            "logs",
            "readable",
            "build",
            "store",
            "worker",
        },
        {"aiohttp", "msgspec", "multidict", "structlog", "uvloop", "yarl"},
    ),
    "supervisor": (
        {"build", "errors", "config", "logs", "files", "store", "supervisor"},
        {"psutil"},
    ),
    "cli": (
        {
            "providers",
            "build",
            "errors",
            "config",
            "logs",
            "readable",
            "files",
            "store",
            "supervisor",
            "cli",
        },
        {"click", "prompt_toolkit", "psutil", "rich", "yaml"},
    ),
    "__main__": ({"cli"}, set()),
}
PURE = {"errors", "protocol", "providers", "convert", "keys", "routing"}
# The two modules of the pure packages that read files or share memory.
IMPURE_MODULES = {"ccproxy.keys.shared_memory", "ccproxy.providers.presets"}
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
# Narrower than its part: the CLI reads the table on every call and must stay fast.
MODULE_MUST_NOT_IMPORT = {
    f"ccproxy.config.{name}": {
        "msgspec",
        "ccproxy.convert",
        "ccproxy.providers",
        "ccproxy.protocol",
    }
    for name in ("fleet", "locations")
}
# Not at the top of a module of these parts: `ccproxy --help` would pay for it.
LAZY = {
    "cli": {
        "aiohttp",
        "msgspec",
        "prompt_toolkit",
        "psutil",
        "rich",
        "sqlite3",
        "structlog",
        "yaml",
    },
    "logs": {"msgspec", "structlog"},
    "config": {"aiohttp", "psutil", "structlog"},
}
NO_MODULE_IS_CALLED = {"base", "constants", "core", "helpers", "manager", "misc", "utils"}
LONGEST_MODULE = 400
LONGEST_FUNCTION = 49
DEEPEST_NESTING = 4

PROVIDERS = frozenset({
    "azure", "bigmodel", "cerebras", "copilot", "deepseek", "demo", "doubao", "gemini", "groq",
    "kimi", "llamacpp", "lmstudio", "minimax", "mistral", "modelscope", "nim", "ollama",
    "openrouter", "qwen", "requesty", "sglang", "vllm", "xai", "zai",
})  # fmt: skip
# Their names are also those of the two protocols: only the bare word means the provider.
PROTOCOLS = frozenset({"anthropic", "openai"})
# What quirks are compared under: their values are words for a way of doing, not for a provider.
DIALECTS = frozenset({"dialect", "history", "reasoning", "schema"})


def preset_names() -> frozenset[str]:
    """The providers that have a preset, besides those that were known from the beginning."""
    presets = tomllib.loads((ROOT / "ccproxy/providers/providers.toml").read_text())
    return frozenset(presets)


@dataclass(frozen=True)
class Module:
    """A module's name and source."""

    name: str
    source: str

    @classmethod
    def read(cls, path: Path) -> Module:
        """Read the module at *path*."""
        parts = path.relative_to(ROOT).with_suffix("").parts
        return cls(".".join(parts).removesuffix(".__init__"), path.read_text())

    @property
    def part(self) -> str:
        """The top-level name below `ccproxy`; empty for the package itself."""
        return part_of(self.name)

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed source."""
        return ast.parse(self.source)


def part_of(name: str) -> str:
    """Say which part of the house the module *name* belongs to."""
    return name.split(".")[1] if "." in name else ""


def modules(*roots: str) -> list[Path]:
    """Every module below *roots*; what a run of the bench left behind is none of ours."""
    found = sorted(path for root in roots for path in (ROOT / root).rglob("*.py"))
    return [path for path in found if not path.is_relative_to(ROOT / "bench/results")]


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in *tree*; type-checking imports count too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            # `from ccproxy import errors` imports a module, `from ccproxy import __version__` none.
            names = [f".{alias.name}" for alias in node.names] if module == "ccproxy" else [""]
            yield from (module + name for name in names if not name.startswith(".__"))


def eager_imports(tree: ast.Module) -> Iterator[str]:
    """What importing the module imports: not what stands in functions or for type checkers."""
    for node in tree.body:
        for_checkers = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if isinstance(node, _RUNS_ON_IMPORT) and not for_checkers:
            yield from imports(node)


_RUNS_ON_IMPORT = (ast.Import, ast.ImportFrom, ast.If, ast.Try, ast.With)


# Imports.


def imports_point_inwards(module: Module) -> Iterator[str]:
    """A part imports only itself, parts further in, and the libraries that are its business."""
    known = set().union(*(libraries for _, libraries in MAY_IMPORT.values()))
    ours, libraries = MAY_IMPORT.get(module.part, (set(), set()))
    for name in imports(module.tree):
        top = name.split(".")[0]
        if name.startswith("."):
            yield f"{module.name} must import absolutely, not {name}"
        elif (top == "ccproxy" and part_of(name) not in ours) or top in known - libraries:
            yield f"{module.part} must not import {name}"


def narrow_modules_stay_narrow(module: Module) -> Iterator[str]:
    """Some modules may import less than their part."""
    banned = MODULE_MUST_NOT_IMPORT.get(module.name, set())
    for name in imports(module.tree):
        if any(name == one or name.startswith(one + ".") for one in banned):
            yield f"{module.name} must not import {name}"


def heavy_libraries_are_imported_late(module: Module) -> Iterator[str]:
    """What makes a command slow to start is imported where it is used."""
    for name in eager_imports(module.tree):
        if name.split(".")[0] in LAZY.get(module.part, ()):
            yield f"{module.name} must import {name} inside the function that needs it"


def pure_parts_are_pure(module: Module) -> Iterator[str]:
    """No I/O, clock, randomness, environment or logging in the pure parts."""
    if module.part not in PURE or module.name in IMPURE_MODULES:
        return
    for name in imports(module.tree):
        if name.split(".")[0] in IMPURE:
            yield f"{module.part} is pure: no {name}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in IMPURE_CALLS:
                yield f"{module.part} is pure: no {node.func.id}()"
        elif isinstance(node, ast.AsyncFunctionDef):
            yield f"{module.part} is pure: {node.name} must not be async"


def import_cycles(graph: dict[str, set[str]]) -> Iterator[str]:
    """Chains of imports that come back to where they began."""
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
    """A module that needs more lines is two modules."""
    lines = module.source.count("\n")
    if lines > LONGEST_MODULE:
        yield f"{module.name} has {lines} lines, more than {LONGEST_MODULE}"


def functions_are_short(module: Module) -> Iterator[str]:
    """The same for functions, from `def` to the last line; a command's options do not count."""
    for function in _functions(module.tree):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > LONGEST_FUNCTION:
            yield f"{module.name}.{function.name} has {lines} lines, more than {LONGEST_FUNCTION}"


def functions_are_flat(module: Module) -> Iterator[str]:
    """Blocks inside blocks are counted from the function; an `elif` is no deeper than its `if`."""
    for function in _functions(module.tree):
        depth = max((_depth(node) for node in function.body), default=0)
        if depth > DEEPEST_NESTING:
            yield f"{module.name}.{function.name} nests {depth} deep, more than {DEEPEST_NESTING}"


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


_BLOCKS = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match,
)  # fmt: skip


def _depth(node: ast.AST) -> int:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return 0  # counted on its own
    here = 1 if isinstance(node, _BLOCKS) else 0
    children = list(ast.iter_child_nodes(node))
    is_elif = isinstance(node, ast.If) and len(node.orelse) == 1
    if is_elif and isinstance(node.orelse[0], ast.If):
        children.remove(node.orelse[0])
        return max(_depth(node.orelse[0]), here + max(map(_depth, children), default=0))
    return here + max(map(_depth, children), default=0)


def names_say_what_is_inside(module: Module) -> Iterator[str]:
    """No drawer for whatever fits nowhere."""
    for word in module.name.split("."):
        if word in NO_MODULE_IS_CALLED:
            yield f"{module.name}: no module is called {word}"


def packages_hold_a_docstring_only(module: Module) -> Iterator[str]:
    """An `__init__.py` is the place for a package's story; the root's also for the version."""
    for node in module.tree.body[1:]:
        is_version = module.name == "ccproxy" and "__version__" in ast.dump(node)
        if not is_version:
            yield f"{module.name}.__init__ holds more than its docstring (line {node.lineno})"


def exceptions_to_the_checkers_name_their_rule(module: Module) -> Iterator[str]:
    """A bare exception silences more than was meant."""
    for number, line in enumerate(module.source.splitlines(), 1):
        if re.search(r"#\s*(noqa(?!: [A-Z])|type: ignore(?!\[))", line):
            yield f"{module.name}:{number} does not say which rule it is an exception to"


# Meaning.


def workers_do_not_trust_the_host_header(module: Module) -> Iterator[str]:
    """`request.url` is rebuilt from what the client sent; decide on route and path only."""
    handlers = _functions(module.tree) if module.part == "worker" else ()
    for handler in handlers:
        arguments = [*handler.args.posonlyargs, *handler.args.args, *handler.args.kwonlyargs]
        names = {argument.arg for argument in arguments} & {"request", "req"}
        for node in ast.walk(handler):
            is_from_host = isinstance(node, ast.Attribute) and node.attr in {"url", "host"}
            if is_from_host and isinstance(node.value, ast.Name) and node.value.id in names:
                yield f"{module.name}:{node.lineno} decides on request.{node.attr}"


def providers_are_data(module: Module) -> Iterator[str]:
    """A provider's name in a condition belongs into `providers.toml`, as a quirk."""
    dialects = {id(word) for word in _compared_with_a_dialect(module.tree)}
    for condition in _conditions(module.tree):
        for node in ast.walk(condition):
            if id(node) in dialects or not isinstance(node, ast.Constant):
                continue
            for word in _providers_in(str(node.value).lower()):
                yield f"{module.name}:{node.lineno} decides by the provider's name {word!r}"


def _providers_in(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text)) & PROVIDERS | {text} & PROTOCOLS


def _compared_with_a_dialect(tree: ast.AST) -> Iterator[ast.AST]:
    """A quirk's value may be called after the provider that came up with it."""
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
