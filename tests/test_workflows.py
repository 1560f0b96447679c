"""The GitHub workflows and pre-commit hooks are valid and pinned, with minimal permissions."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib

import pytest
import yaml

from tests.fleet import ROOT

FOLDER = ROOT / ".github/workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()


def load(path):
    return yaml.safe_load(path.read_text())


def steps(path):
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_valid(path):
    program = ("-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows")
    done = subprocess.run([sys.executable, *program, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path):
    """A tag can be moved. The comment contains the version for people and update tools."""
    for line in re.findall(r"uses: (.+)", path.read_text()):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_permissions_are_minimal(path):
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert "timeout-minutes" in job, name
        rights = {right for right, value in job.get("permissions", {}).items() if value == "write"}
        assert rights <= {"id-token", "attestations"}, name
    for step in steps(path):
        # An expression in a script would execute code in the name of a branch.
        assert "${{" not in step.get("run", ""), step
        if "checkout@" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_make_has_every_target(path):
    for step in steps(path):
        words = shlex.split(step.get("run", ""), comments=True)
        if words[:1] == ["make"]:
            for target in (word for word in words[1:] if "=" not in word):
                assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


def test_every_supported_python_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [one.rpartition(":: ")[2] for one in project["classifiers"]]
    supported = [name for name in names if re.fullmatch(r"3\.\d+", name)]
    matrix = load(FOLDER / "test.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == supported
    assert f"PYTHON_VERSIONS := {' '.join(supported)}\n" in MAKEFILE
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos"}


def test_the_hooks_are_the_checks_of_make_lint():
    (repository,) = load(ROOT / ".pre-commit-config.yaml")["repos"]
    entries = {hook["id"]: shlex.split(hook["entry"]) for hook in repository["hooks"]}
    recipe = MAKEFILE.partition("\nlint:")[2].partition("\n\n")[0]
    checks = [shlex.split(line)[:2] for line in re.findall(r"\$\(VENV\)/bin/(.+)", recipe)]
    programs = [[word.rpartition("/")[2] for word in entry[:2]] for entry in entries.values()]
    assert programs == checks
