"""The fleet's models in Claude Code's picker: names, order, texts, windows, and the user's rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccproxy.cli.session.claude_environment import find_limits, session
from ccproxy.cli.session.claude_settings import SettingsFile, session_settings
from ccproxy.cli.session.fleet_picker import fleet_picker, picker_setting, valid_rows
from ccproxy.config.fleet import Entry
from ccproxy.config.worker_config import load_worker
from ccproxy.routing.entry_references import FleetModels

SERVER = {"PROVIDER_BASE_URL": "http://127.0.0.1:9/v1", "PROVIDER_API_KEY": "sk-a-0123456789"}
MODELS = {"BIG_MODEL": "b", "MIDDLE_MODEL": "b", "SMALL_MODEL": "s"}
ENTRIES = {
    "Own": SERVER | MODELS | {"CONTEXT_WINDOW": "262144", "PRICES": "b=1.4/4.4"},
    "Far": SERVER | MODELS | {"CONTEXT_WINDOW": "1000000", "BIG_MODEL": "Own:big"},
    "Tiny": SERVER | MODELS | {"CONTEXT_WINDOW": "32768"},
    "Claude": {"PROVIDER": "anthropic", "PROVIDER_API_KEY": "sk-ant-0123456789012345"},
}


def config(label):
    entry = Entry(port=8081, env_file=Path("x.env"), label=label)
    return load_worker(None, entry=entry, environ=ENTRIES[label])


FLEET = FleetModels(labels={label.lower(): label for label in ENTRIES}, config=config)


def options(label, *others, own=()):
    return picker_setting(fleet_picker(FLEET, label, others, running=ENTRIES), own)["options"]


def settings(label, *others, files=(), user_settings=()):
    variables = session(config(label), {}, fleet_models=FLEET)
    limits = find_limits(config(label), fleet_models=FLEET)
    picker = fleet_picker(FLEET, label, others, running=ENTRIES)
    return session_settings(variables, limits, files, dict(user_settings), picker=picker)


def test_own_models_come_first_and_tiers_with_one_model_are_one_row():
    names = [row["model"] for row in options("Own", "Far")]
    assert names == ["Own:big", "Own:small", "Far:big", "Far:middle", "Far:small"]


def test_a_tier_without_its_own_row_is_in_its_models_row():
    picker = fleet_picker(FLEET, "Own", [], running=ENTRIES)
    assert [picker.find(f"own:{tier}[1m]") for tier in ("big", "middle", "small", "x")] == [
        *("Own:big", "Own:big", "Own:small", None)
    ]


def test_a_row_names_model_window_and_price():
    (row, *_) = options("Own")
    assert row["label"] == "Own · b"
    assert row["description"] == "big · 256K window · $1.4/$4.4 per Mtok"


def test_rows_of_entries_that_do_not_run_come_last_and_name_the_command():
    rows = fleet_picker(FLEET, "Own", ["Far", "Tiny"], running=["Tiny"]).rows
    labels = [row.ref.label for row in rows]
    assert labels.index("Tiny") < labels.index("Far")
    assert {row.description for row in rows if row.ref.label == "Far"} == {
        "not running: ccproxy start Far"
    }


def test_a_tier_at_another_entry_names_both():
    rows = {row["model"]: row for row in options("Far")}
    assert rows["Far:big"]["label"] == "Far · Own:b"
    assert "256K window" in rows["Far:big"]["description"]


def test_the_users_rows_come_first():
    own = [{"model": "mine", "behavesAs": "claude-opus-5-5"}]
    assert options("Own", own=own)[0] == own[0]
    file = SettingsFile(
        path=Path("x"), env={}, model=None, is_managed=False, is_user=True, picker_rows=tuple(own)
    )
    assert settings("Own", files=[file])["modelPicker"]["options"][0] == own[0]
    forwarded = {"modelPicker": {"options": [{"model": "passed"}]}}
    merged = settings("Own", files=[file], user_settings=forwarded)["modelPicker"]["options"]
    assert [row["model"] for row in merged[:2]] == ["passed", "Own:big"]
    assert not any("behavesAs" in row for row in merged)


@pytest.mark.parametrize(("label", "replaces"), [("Own", True), ("Claude", False)])
def test_the_built_in_rows_remain_only_for_claude_models(label, replaces):
    assert settings(label, "Own")["modelPicker"]["replaceBuiltInOptions"] is replaces


@pytest.mark.parametrize(
    "setting",
    [
        None,
        [],
        {"options": None},
        {"options": [3, {}, {"model": ""}, {"model": 3}, {"model": "x", "label": None}]},
    ],
)
def test_rows_that_claude_code_refuses_are_left_out(setting):
    assert valid_rows(setting) == []


def test_every_name_has_its_true_window():
    result = settings("Own", "Far")
    windows = {name: one["autoCompactWindow"] for name, one in result["modelSettings"].items()}
    assert (windows["Own:big"], windows["Own:middle"]) == (262144, 262144)
    assert (windows["Far:big"], windows["Far:small"]) == (262144, 1_000_000)
    assert result["env"]["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "1000000"


@pytest.mark.parametrize(
    ("label", "others", "window", "disabled"),
    [
        pytest.param("Tiny", ["Far"], "32768", "1", id="a small window holds for all models"),
        pytest.param("Own", ["Tiny"], "262144", None, id="a small one elsewhere does not"),
        pytest.param("Claude", ["Far"], "1000000", None, id="Claude's own windows are built in"),
    ],
)
def test_the_window_of_all_models(label, others, window, disabled):
    env = settings(label, *others)["env"]
    assert env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == window
    assert env.get("CLAUDE_CODE_DISABLE_1M_CONTEXT") == disabled


def test_the_aliases_are_tiers_of_the_label():
    env = settings("Own")["env"]
    assert env["ANTHROPIC_DEFAULT_SONNET_MODEL"] == "Own:middle"
    assert env["ANTHROPIC_DEFAULT_SONNET_MODEL_NAME"] == "Own · b"


def test_null_never_reaches_the_file():
    assert "statusLine" not in settings("Own", user_settings={"statusLine": None})
