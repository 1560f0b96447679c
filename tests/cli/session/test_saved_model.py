"""The model in the user's settings.json around sessions: other sessions, links, other values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ccproxy.cli.session.saved_model import SavedModel

LABELS = {"kimi": "Kimi", "glm": "GLM"}


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "settings.json"
    save(file, model="opus")
    return file


@pytest.fixture
def saved(tmp_path: Path, settings: Path) -> SavedModel:
    saved = SavedModel(tmp_path / "claude", settings, LABELS)
    assert saved.clean() == ""
    return saved


def save(file: Path, **settings: Any) -> None:
    file.write_text(json.dumps(settings))


def model(file: Path) -> object:
    return json.loads(file.read_text()).get("model")


def test_the_choice_of_the_only_session_is_kept_for_its_label(saved, settings):
    with saved.session("Kimi"):
        save(settings, model="GLM:small")
    assert (model(settings), saved.choice("Kimi"), saved.choice("GLM")) == ("opus", "GLM:small", "")


def test_with_two_sessions_a_selection_is_saved_for_the_named_label(saved, settings):
    with saved.session("Kimi"):
        with saved.session("GLM"):
            save(settings, model="Kimi:small")
        assert (model(settings), saved.choice("Kimi")) == ("opus", "Kimi:small")
        assert saved.choice("GLM") == ""
    assert model(settings) == "opus"


@pytest.mark.parametrize("name", ["sonnet", "claude-opus-5-5", "someone/else", "qwen3:8b"])
def test_a_model_outside_of_the_fleet_is_the_users_own(name, saved, settings):
    with saved.session("Kimi"):
        save(settings, model=name)
    assert (model(settings), saved.choice("Kimi")) == (name, "")
    assert saved.clean() == ""
    with saved.session("Kimi"):
        save(settings, model="Kimi:big")
    assert model(settings) == name


def test_settings_without_a_model_have_none_again(saved, settings):
    save(settings, theme="dark")
    saved.clean()
    with saved.session("Kimi"):
        save(settings, theme="dark", model="Kimi:big")
    assert json.loads(settings.read_text()) == {"theme": "dark"}


def test_a_symbolic_link_is_preserved(saved, settings, tmp_path):
    target = tmp_path / "dotfiles.json"
    settings.rename(target)
    settings.symlink_to(target)
    with saved.session("Kimi"):
        save(settings, model="Kimi:small")
    assert settings.is_symlink()
    assert model(target) == "opus"


@pytest.mark.parametrize("text", ["{", "[]", '{"model": 3}', '{"model": null}'])
def test_values_that_are_not_models_are_unchanged(text, saved, settings):
    with saved.session("Kimi"):
        settings.write_text(text)
    assert settings.read_text() == text


def test_settings_that_cannot_be_read_leave_the_users_own_model(saved, settings):
    settings.write_text("{")
    assert saved.clean() == ""
    save(settings, model="Kimi:small")
    assert saved.clean() == "Kimi:small"
    assert model(settings) == "opus"


def test_half_an_emoji_in_the_settings_is_kept(saved, settings):
    with saved.session("Kimi"):
        save(settings, model="Kimi:small", tip="a\ud83d")
    assert json.loads(settings.read_text()) == {"model": "opus", "tip": "a\ud83d"}


def test_a_failed_start_changes_nothing(saved, settings):
    with pytest.raises(FileNotFoundError), saved.session("Kimi"):
        raise FileNotFoundError
    assert (model(settings), saved.choice("Kimi")) == ("opus", "")
