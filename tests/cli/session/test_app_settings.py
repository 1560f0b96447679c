"""Settings of VS Code and Claude Desktop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ccproxy.cli.session.app_settings import vscode_file, vscode_settings
from tests.cli.conftest import write_env

TOKEN = "ccp_client-key-0123456789abcdef"
FOREIGN = {"name": "MY_OWN", "value": "1"}
OLD = {"name": "ANTHROPIC_BASE_URL", "value": "http://old.example"}


@pytest.fixture
def settings(home, monkeypatch):
    """The settings.json of VS Code, with the user's own setting and variable."""
    text = (home / "envs/kimi.env").read_text()
    write_env(home, "kimi", f"{text}ANTHROPIC_API_KEY={TOKEN}\n")
    file = vscode_file({"HOME": str(Path.home())})
    file.parent.mkdir(parents=True)
    document = {"editor.tabSize": 2, "claudeCode.environmentVariables": [FOREIGN, OLD]}
    file.write_text(json.dumps(document))
    return file


def variables(document):
    listed = document["claudeCode.environmentVariables"]
    return {one["name"]: one["value"] for one in listed}


def test_vscode_gets_the_variables_of_a_session(settings, ccproxy):
    done = ccproxy("env", "Kimi-K2", "--for", "vscode")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["claudeCode.disableLoginPrompt"] is True
    assert variables(document)["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:18081"
    assert variables(document)["ANTHROPIC_AUTH_TOKEN"] == TOKEN
    assert all(isinstance(value, str) for value in variables(document).values())


def test_settings_of_the_user_are_kept_and_the_change_can_be_undone(settings, ccproxy):
    before = json.loads(settings.read_text())
    done = ccproxy("env", "Kimi-K2", "--for", "vscode", "--write", "--yes")
    assert done.exit_code == 0, done.stderr
    document = json.loads(settings.read_text())
    assert document["editor.tabSize"] == 2
    assert variables(document)["MY_OWN"] == "1"
    assert variables(document)["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:18081"
    assert TOKEN not in done.stdout + done.stderr
    again = ccproxy("env", "Kimi-K2", "--for", "vscode", "--write")
    assert again.stdout.startswith("Unchanged")
    ccproxy("env", "--unset", "--for", "vscode", "--write", "--yes")
    after = json.loads(settings.read_text())
    assert after == {**before, "claudeCode.environmentVariables": [FOREIGN]}


def test_changes_are_confirmed(settings, ccproxy):
    before = settings.read_text()
    done = ccproxy("env", "Kimi-K2", "--for", "vscode", "--write")
    assert (done.exit_code, "--yes" in done.stderr) == (2, True)
    assert settings.read_text() == before


def test_settings_with_comments_are_not_rewritten(settings, ccproxy):
    settings.write_text('{\n  // mine\n  "a": 1,\n}\n')
    done = ccproxy("env", "Kimi-K2", "--for", "vscode", "--write", "--yes")
    assert (done.exit_code, "paste the output" in done.stderr) == (2, True)
    assert "// mine" in settings.read_text()


@pytest.mark.parametrize("program", ["desktop", "cowork"])
def test_claude_desktop_gets_a_gateway_with_names_that_it_accepts(settings, ccproxy, program):
    profile = json.loads(ccproxy("env", "Kimi-K2", "--for", program).stdout)
    assert profile["inferenceProvider"] == "gateway"
    assert profile["inferenceGatewayBaseUrl"] == "http://127.0.0.1:18081"
    assert profile["inferenceGatewayApiKey"] == TOKEN
    tiers = [model["name"].split("-")[1] for model in profile["inferenceModels"]]
    assert tiers == ["opus", "sonnet", "haiku"]
    assert all(model["labelOverride"].startswith("kimi") for model in profile["inferenceModels"])


def test_jetbrains_runs_a_command(settings, ccproxy):
    done = ccproxy("env", "kimi", "--for", "jetbrains")
    assert done.stdout == "ccproxy run Kimi-K2 -- claude\n"


def test_other_programs_have_no_file_to_write(settings, ccproxy):
    done = ccproxy("env", "Kimi-K2", "--for", "desktop", "--write")
    assert (done.exit_code, "--for vscode" in done.stderr) == (2, True)


@pytest.mark.parametrize("listed", [None, 5, "x", [5, None, {"name": 1}]])
def test_unusual_values_in_the_settings_do_no_harm(listed):
    settings = vscode_settings({"A": "1", "B": None}, {"claudeCode.environmentVariables": listed})
    assert {"name": "A", "value": "1"} in settings["claudeCode.environmentVariables"]
