"""Supply chain: pinned dependencies, and a reproducible wheel that runs no code at installation."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement

from tests.fleet import ROOT
from tests.security.test_promises import MOST_PACKAGES, closure, listed

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME, DEVELOPMENT = "requirements.lock", "requirements-dev.lock"
IMAGE = "deploy/requirements.lock"
GROUPS = ("test", "lint", "docs")
EXTRAS = ("redis", "oidc")
"""The Python version of the image."""


# The lock files; `make lock` updates them.


class Pin(NamedTuple):
    version: str
    hashes: list[str]


def pins(file: str) -> dict[str, Pin]:
    """Return the pinned packages of a lock file; any other line is an error."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / file).read_text(), flags=re.MULTILINE)
    result = {}
    for line in text.replace("\\\n", " ").splitlines():
        pin = re.fullmatch(r"([a-z0-9-]+)==(\S+)(?: ; [^#]*?)?((?:\s+--hash=\S+)*)\s*", line)
        assert pin, line
        result[pin[1]] = Pin(pin[2], re.findall(r"--hash=(\S+)", pin[3]))
    return result


def requirements_of(file: str) -> list[Requirement]:
    groups = GROUPS if file == DEVELOPMENT else ()
    texts = [*PROJECT["project"]["dependencies"]]
    texts += [text for group in groups for text in PROJECT["dependency-groups"][group]]
    extras = EXTRAS if file == IMAGE else ()
    texts += [text for one in extras for text in PROJECT["project"]["optional-dependencies"][one]]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("file", [RUNTIME, DEVELOPMENT, IMAGE])
def test_every_pin_has_its_hashes(file):
    for name, pin in pins(file).items():
        assert pin.hashes, name
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in pin.hashes), name


@pytest.mark.parametrize("file", [RUNTIME, DEVELOPMENT, IMAGE])
def test_the_lock_matches_the_project(file):
    locked = pins(file)
    for one in requirements_of(file):
        name = re.sub(r"[-_.]+", "-", one.name).lower()
        assert name in locked, f"{name} is not locked: make lock"
        assert one.specifier.contains(locked[name].version), f"{one} is locked else: make lock"


def test_the_lock_is_exactly_the_closure():
    """Removed dependencies leave the lock file, and new ones are added to it."""
    assert set(pins(RUNTIME)) == set(listed())
    assert closure("ccproxy-fleet") <= set(pins(RUNTIME))
    assert len(pins(RUNTIME)) <= MOST_PACKAGES


@pytest.mark.parametrize("file", [DEVELOPMENT, IMAGE])
def test_every_lock_file_has_the_users_versions(file):
    other = pins(file)
    assert {name: other.get(name) for name in pins(RUNTIME)} == pins(RUNTIME)


@pytest.mark.parametrize("file", [RUNTIME, DEVELOPMENT, IMAGE])
def test_the_lock_names_no_host_or_path(file):
    text = (ROOT / file).read_text()
    assert "://" not in text
    assert not re.search(r"(^|[\s(])/\w", text)


# The wheel.


def build(source, out):
    code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    environ = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    words = [sys.executable, "-W", "ignore", "-c", code, str(out)]
    done = subprocess.run(words, cwd=source, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """The wheel, built from two copies of the source with different timestamps."""
    built = []
    for age in (0, 10**6):
        source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out")
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(ROOT / name, source / name)
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "ccproxy", source / "ccproxy", ignore=without)
        for path in source.rglob("*"):
            os.utime(path, (1.7e9 + age,) * 2)
        built.append(build(source, out))
    return built


def test_the_wheel_is_reproducible(wheels):
    one, other = wheels
    assert one.name == other.name
    assert one.read_bytes() == other.read_bytes()


def test_a_wheel_holds_every_file_of_the_package(wheels):
    """Data files must be listed in pyproject.toml's package-data to be installed."""
    files = [path for path in (ROOT / "ccproxy").rglob("*") if path.is_file()]
    own = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    with zipfile.ZipFile(wheels[0]) as wheel:
        assert own - set(wheel.namelist()) == set()


def test_a_wheel_runs_nothing_by_being_installed(wheels):
    """The wheel has no .pth file, no script except the commands, no file outside the package."""
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = wheel.namelist()
        (entries,) = (name for name in names if name.endswith("/entry_points.txt"))
        commands = wheel.read(entries).decode()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"ccproxy"}
    assert len(tops) == 2
    assert {name.rpartition(".")[2] for name in names if name.startswith("ccproxy/")} == {
        *("css", "html", "js", "json", "lua", "py", "svg", "toml", "tsx", "typed"),
    }
    assert commands.splitlines() == [
        "[console_scripts]",
        "ccproxy = ccproxy.__main__:main",
        "ccproxy-statusline = ccproxy.statusline.__main__:main",
    ]
