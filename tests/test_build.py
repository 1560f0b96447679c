"""The hash of the source."""

from __future__ import annotations

import os

import pytest

from ccproxy.build import build_of


@pytest.fixture
def package(tmp_path):
    (tmp_path / "worker").mkdir()
    (tmp_path / "__init__.py").write_text("A = 1\n")
    (tmp_path / "worker" / "serve.py").write_text("B = 1\n")
    return tmp_path


def test_equal_source_has_an_equal_hash_whatever_its_timestamps(package):
    before = build_of(package)
    os.utime(package / "__init__.py", (1, 1))
    (package / "page.css").write_text("x")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "serve.pyc").write_text("x")
    assert build_of(package) == before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda p: (p / "worker" / "serve.py").write_text("B = 2\n"), id="a line"),
        pytest.param(lambda p: (p / "more.py").write_text(""), id="a new file"),
        pytest.param(lambda p: (p / "providers.toml").write_text(""), id="other presets"),
        pytest.param(lambda p: (p / "catalogue.json").write_text(""), id="another catalogue"),
        pytest.param(lambda p: (p / "__init__.py").unlink(), id="a removed file"),
        pytest.param(lambda p: (p / "__init__.py").rename(p / "init.py"), id="a renamed file"),
    ],
)
def test_different_source_has_a_different_hash(change, package):
    before = build_of(package)
    change(package)
    assert build_of(package) != before
