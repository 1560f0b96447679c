"""The environment of child processes: fixed variables without keys, and network variables."""

from __future__ import annotations

import pytest

from ccproxy.supervisor.processes.child_environment import (
    NETWORK_VARIABLES,
    NetworkEnvironment,
    clean_environment,
    differing_names,
)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_children_get_only_selected_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"OPENAI_API_KEY": "k", "ANTHROPIC_AUTH_TOKEN": "t", "AWS_SECRET": "s", "PS1": "$"}
    expected = {"LC_ALL": "C", "TZ": "UTC", "https_proxy": "http://p", "SSL_CERT_FILE": "/c"}
    for name, value in {**secrets, **expected}.items():
        monkeypatch.setenv(name, value)
    environment = clean_environment()
    assert expected.items() <= environment.items()
    assert not secrets.keys() & environment.keys()


def test_a_commands_network_variables_replace_all_of_the_supervisors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://old:1")
    monkeypatch.setenv("NO_PROXY", "localhost")
    environment = clean_environment({"HTTPS_PROXY": "http://new:2", "OPENAI_API_KEY": "k"})
    assert environment["HTTPS_PROXY"] == "http://new:2"
    assert "NO_PROXY" not in environment
    assert "OPENAI_API_KEY" not in environment


def test_differences_are_reported_by_name_without_values() -> None:
    first = {"HTTPS_PROXY": "http://user:password@a", "NO_PROXY": "x"}
    second = {"HTTPS_PROXY": "http://b", "NO_PROXY": "x", "SSL_CERT_FILE": "/c"}
    assert differing_names(first, second) == ["HTTPS_PROXY", "SSL_CERT_FILE"]


def test_a_background_supervisor_uses_the_variables_of_the_last_command() -> None:
    network = NetworkEnvironment()
    assert network.take({"HTTPS_PROXY": "http://user:password@p"}) == ()
    assert network.environment()["HTTPS_PROXY"] == "http://user:password@p"
    (note,) = network.take({}, running=["Kimi", "Glm"])
    assert note == (
        "HTTPS_PROXY: this shell's values differ from those that Kimi, Glm runs with\n"
        "  fix: ccproxy restart Kimi Glm"
    )
    assert "HTTPS_PROXY" not in network.environment()


def test_a_foreground_supervisor_keeps_its_variables_and_reports_the_difference() -> None:
    network = NetworkEnvironment(is_foreground=True)
    (note,) = network.take({"HTTPS_PROXY": "http://user:password@p"})
    assert note.startswith("HTTPS_PROXY: this shell's values differ")
    assert "password" not in note
    assert "HTTPS_PROXY" not in network.environment()
    assert network.preview({"HTTPS_PROXY": "http://p"}) == {}


def test_a_preview_changes_nothing() -> None:
    network = NetworkEnvironment()
    assert network.preview({"HTTPS_PROXY": "http://p"}) == {"HTTPS_PROXY": "http://p"}
    assert "HTTPS_PROXY" not in network.environment()
