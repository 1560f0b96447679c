"""`ccproxy check` and what the labels mean."""

from __future__ import annotations

import os
import time

import pytest

from ccproxy.cli.selection import choose, choose_one, known_labels
from ccproxy.config.fleet import load_fleet
from ccproxy.errors import UsageError
from ccproxy.store.key_database import REFUSALS, KeyStore, keys_path
from tests.cli.conftest import KIMI, write_env


def test_a_fleet_in_order(home, ccproxy):
    result = ccproxy("check")
    assert (result.exit_code, result.stderr) == (0, "")
    first, *lines = result.stdout.splitlines()
    assert first == "ccproxy.toml is valid: 2 providers"
    assert lines == [
        "  LABEL     PORT  ENV FILE       PROVIDER    KEYS  MODEL",
        "  Kimi-K2  18081  envs/kimi.env  Kimi           1  kimi-k3",
        "  GLM-4.6  18082  envs/glm.env   Z.ai (GLM)     1  glm-5.3",
    ]
    assert "secret" not in result.stdout


def test_all_mistakes_of_all_files_at_once(home, ccproxy):
    write_env(home, "kimi", KIMI + "MAX_RETRIES=many\nBIG_MODLE=x\n")
    write_env(home, "glm", "PROVIDER=zai\n")
    result = ccproxy("check")
    assert result.exit_code == 78
    for words in ("MAX_RETRIES must", "BIG_MODLE is not a setting", "PROVIDER_API_KEY is missing"):
        assert words in result.stderr
    for position in ("  envs/kimi.env:3\n", "  envs/kimi.env:4\n", "  envs/glm.env"):
        assert position in result.stderr
    assert result.stderr.count("Error: ") == result.stderr.count("  fix: ") == 3
    assert "secret" not in result.stderr


def test_a_file_that_others_may_read(home, ccproxy):
    (home / "envs" / "kimi.env").chmod(0o644)
    result = ccproxy("check")
    assert result.exit_code == 78
    assert "chmod 600" in result.stderr


def test_a_single_env_file(home, ccproxy):
    assert ccproxy("check", "envs/kimi.env").stdout.startswith("envs/kimi.env is valid: Kimi, ")
    assert ccproxy("check", "envs/none.env").exit_code == 78


NOTE = "the context window of qwen3-coder:30b is unknown"


def test_an_unknown_context_window_is_noted(home, ccproxy):
    file = write_env(home, "kimi", "PROVIDER=ollama\n")
    for words in ([], ["envs/kimi.env"]):
        result = ccproxy("check", *words)
        assert (result.exit_code, result.stdout.count("note: ")) == (0, 1)
        assert NOTE in result.stdout
        assert "Set CONTEXT_WINDOW in kimi.env" in result.stdout
    file.write_text("PROVIDER=ollama\nCONTEXT_WINDOW=32000\n")
    assert "note: " not in ccproxy("check").stdout


def test_another_table(home, ccproxy, tmp_path_factory):
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert ccproxy("check", home / "ccproxy.toml").exit_code == 0
    assert ccproxy("check", home).exit_code == 0
    assert ccproxy("check", "none.toml").exit_code == 78


# Labels.


@pytest.fixture
def fleet(home):
    return load_fleet(home / "ccproxy.toml")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ([], ["Kimi-K2", "GLM-4.6"]),
        (["kimi-k2"], ["Kimi-K2"]),
        (["GLM-4.6", "KIMI-K2"], ["Kimi-K2", "GLM-4.6"]),
        (["*"], ["Kimi-K2", "GLM-4.6"]),
        (["k*", "kimi-k2"], ["Kimi-K2"]),
        (["glm-4.?"], ["GLM-4.6"]),
    ],
)
def test_choose(typed, expected, fleet):
    assert [entry.label for entry in choose(fleet, typed)] == expected
    if typed != ["*"] and len(expected) == 1:
        assert choose_one(fleet, typed[0]).label == expected[0]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("kmi-k2", 'did you mean "Kimi-K2"?'),
        ("glm4.6", 'did you mean "GLM-4.6"?'),
        ("zzz", '"zzz" is not in the table\n  fix: use one of: Kimi-K2, GLM-4.6'),
        ("z*", '"z*" is not in the table'),
    ],
)
def test_a_label_without_a_match_is_refused(typed, words, fleet):
    with pytest.raises(UsageError) as caught:
        choose(fleet, ["kimi-k2", typed])
    assert words in str(caught.value)


def test_one_means_one(fleet):
    with pytest.raises(UsageError, match=r"matches 2 labels: Kimi-K2, GLM-4\.6"):
        choose_one(fleet, "*")


def test_workers_that_left_the_table_are_still_known(fleet):
    running = ["Kimi-K2", "Old"]
    assert known_labels(fleet, running, []) == ["Kimi-K2", "Old", "GLM-4.6"]
    assert known_labels(fleet, running, ["old"]) == ["Old"]
    with pytest.raises(UsageError, match="is not in the table"):
        known_labels(fleet, running, ["nobody"])


def test_refusals_are_shown_and_forgotten(home, ccproxy):
    store = KeyStore(keys_path(home, "Kimi-K2"))
    features = {"chat": {"kimi-k3": ["reasoning_effort", "images"]}}
    learnt = {"features": features, "opaque": [], "apis": {}}
    store.save_value(REFUSALS, {"at": time.time(), "learnt": learnt})
    store.close()
    result = ccproxy("check", "--learned", "kimi-k2")
    assert result.exit_code == 0
    assert "kimi-k3  chat  images, reasoning_effort" in result.stdout
    assert "ccproxy restart Kimi-K2" in ccproxy("check", "--forget", "Kimi-K2").stdout
    assert "has refused no feature" in ccproxy("check", "--learned", "Kimi-K2").stdout


def test_refusals_of_an_entry_that_never_ran(home, ccproxy):
    assert "has refused no feature" in ccproxy("check", "--learned", "GLM-4.6").stdout
    assert ccproxy("check", "--learned", "nobody").exit_code == 2
