"""Model presets, routes and fallbacks of ccproxy.toml, and the mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccproxy.config.fleet import read_fleet
from ccproxy.config.fleet_check import check_fleet
from ccproxy.config.routing_tables import built_in_presets, read_routing_tables
from ccproxy.providers.presets import load_presets
from ccproxy.routing.names import Tiers
from ccproxy.routing.rules import NO_ROUTING, LongContext, Routing, RoutingTables
from ccproxy.routing.tiers import TIERS, ModelMap

TABLE = 'proxies = ["8081:a.env:Kimi", "8082:b.env:GLM-4.6"]\n'


def read(folder: Path, text: str, table: str = TABLE) -> tuple[RoutingTables, list[str]]:
    file = folder / "ccproxy.toml"
    file.write_text(table + text)
    fleet, mistakes = read_fleet(file)
    assert mistakes == ()
    tables, result = read_routing_tables(fleet)
    return tables, [f"{mistake.line}: {mistake.text}" for mistake in result]


def test_all_tables_are_read(tmp_path):
    text = """
[presets.fast]
big = "GLM-4.6:big"
small = "k3-mini"

[routes.kimi]
subagent = "GLM-4.6:big"
long_context = { over = 60000, model = "GLM-4.6:glm-long" }

[routes.kimi.agents]
Explore = "small"

[routes."GLM-4.6"]
long_context = "Kimi:big"

[fallback]
Kimi = ["glm-4.6"]
"""
    tables, mistakes = read(tmp_path, text)
    assert mistakes == []
    assert tables.presets["fast"] == Tiers(big="GLM-4.6:big", small="k3-mini")
    assert tables.routing("KIMI") == Routing(
        rules={"subagent": "GLM-4.6:big"},
        agents={"explore": "small"},
        long_context=LongContext(over=60000, model="GLM-4.6:glm-long"),
    )
    assert tables.routing("GLM-4.6") == Routing(long_context=LongContext(model="Kimi:big"))
    assert tables.fallback("kimi") == ("GLM-4.6",)
    assert tables.fallback("GLM-4.6") == ()


def test_the_local_table_takes_precedence(tmp_path):
    (tmp_path / "ccproxy.local.toml").write_text("""
[[proxy]]
port = 8083
env_file = "c.env"
label = "Mine"
fallback = ["Kimi"]

[presets.fast]
big = "Mine:big"

[routes.KIMI]
subagent = "Mine:big"

[fallback]
"GLM-4.6" = ["Mine"]
""")
    text = """
[presets.fast]
small = "k3-mini"

[presets.slow]
big = "k3"

[routes.Kimi]
main = "GLM-4.6:big"

[routes."GLM-4.6"]
main = "Mine:big"

[fallback]
Kimi = ["Mine"]
"GLM-4.6" = ["Kimi"]
"""
    tables, mistakes = read(tmp_path, text)
    assert mistakes == []
    assert (tables.presets["fast"], tables.presets["slow"]) == (
        Tiers(big="Mine:big"),
        Tiers(big="k3"),
    )
    assert tables.routing("Kimi") == Routing(rules={"subagent": "Mine:big"})
    assert tables.routing("GLM-4.6") == Routing(rules={"main": "Mine:big"})
    fallbacks = {label: tables.fallback(label) for label in ("Kimi", "GLM-4.6", "Mine")}
    assert fallbacks == {"Kimi": ("Mine",), "GLM-4.6": ("Mine",), "Mine": ("Kimi",)}


def test_mistakes_in_both_tables_name_their_files(tmp_path):
    (tmp_path / "ccproxy.local.toml").write_text('[fallback]\nKimi = ["Local"]\n')
    file = tmp_path / "ccproxy.toml"
    file.write_text(TABLE + '[fallback]\nKimi = ["Main"]\n')
    _, mistakes = read_routing_tables(read_fleet(file)[0])
    assert [(mistake.file.name, mistake.line) for mistake in mistakes] == [
        ("ccproxy.toml", 3),
        ("ccproxy.local.toml", 2),
    ]


def test_an_entry_in_long_form_may_have_its_own_fallback(tmp_path):
    table = """
[[proxy]]
port = 8081
env_file = "a.env"
label = "Kimi"
fallback = ["GLM"]

[[proxy]]
port = 8082
env_file = "b.env"
label = "GLM"
"""
    tables, mistakes = read(tmp_path, "", table)
    assert (mistakes, tables.fallback("kimi")) == ([], ("GLM",))
    _, mistakes = read(tmp_path, "", f"{table}\n[fallback]\nKIMI = []\n")
    assert ["fallback Kimi is set twice; case is ignored" in one for one in mistakes] == [True]


def test_entries_without_labels_are_not_reported_as_one_entry(tmp_path):
    entry = '[[proxy]]\nport = 8083\nenv_file = "a.env"\nfallback = "Kimi"\n'
    file = tmp_path / "ccproxy.toml"
    file.write_text(TABLE + 2 * entry)
    fleet, mistakes = read_fleet(file)
    assert [mistake.text for mistake in mistakes] == ["[[proxy]] has no label"] * 2
    _, others = read_routing_tables(fleet)
    assert not any("set twice" in mistake.text for mistake in others)


def test_a_fallback_is_tried_once(tmp_path):
    tables, mistakes = read(tmp_path, '[fallback]\nKimi = ["GLM-4.6", "glm-4.6"]\n')
    assert (mistakes, tables.fallback("Kimi")) == ([], ("GLM-4.6",))


def test_without_tables_there_are_no_rules(tmp_path):
    tables, mistakes = read(tmp_path, "")
    assert mistakes == []
    assert tables.routing("Kimi") is NO_ROUTING
    assert tables.presets == built_in_presets()


def test_the_names_of_the_built_in_presets_are_stable():
    assert list(built_in_presets()) == [
        *("openai_premium", "openai_reasoning", "gemini_balanced", "anthropic_pure"),
        *("cross_premium", "cross_balanced", "cross_speed"),
    ]


def test_a_built_in_preset_names_models_that_a_provider_offers():
    available = [
        ModelMap(big=None, middle=None, small=None, pass_patterns=preset.pass_models)
        for name, preset in load_presets().items()
        if name in ("openai", "gemini", "anthropic")
    ]
    models = [tiers.of(tier) for tiers in built_in_presets().values() for tier in TIERS]
    assert None not in models
    assert [
        model for model in models if model and not any(one.knows(model) for one in available)
    ] == []


def test_a_preset_of_the_user_replaces_a_built_in_one(tmp_path):
    tables, _ = read(tmp_path, '[presets.cross_speed]\nbig = "k3"\n')
    assert tables.presets["cross_speed"] == Tiers(big="k3")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('[presets.x]\nbg = "k3"\n', '3: bg is not a key of preset x (did you mean "big"?)'),
        ("[presets.x]\n", "2: the preset x names no model"),
        ('[presets.x]\nbig = ""\n', '3: big of preset x must name a model, got ""'),
        (
            '[presets.x]\nbig = "GLM-4.7:big"\n',
            '3: big of preset x: there is no proxy "GLM-4.7" (did you mean "GLM-4.6"?)',
        ),
        ("presets = 1\n", "2: presets must be tables"),
        ("[presets]\nx = 1\n", "3: presets.x must be a table"),
        (
            '[routes.Kmi]\nmain = "big"\n',
            '2: routes.Kmi: there is no proxy "Kmi" (did you mean "Kimi"?)',
        ),
        ('[routes.GLM-4.6]\nmain = "big"\n', "2: a label with a dot must be quoted: GLM-4.6"),
        (
            '[routes.Kimi]\nbackgrond = "big"\n',
            '3: backgrond is not a key of routes of Kimi (did you mean "background"?)',
        ),
        ("[routes.Kimi]\nmain = 3\n", '3: main must name a model, got "3"'),
        ('[routes.Kimi]\nmain = "X:small"\n', '3: main: there is no proxy "X"'),
        ("[routes.Kimi]\nagents = 3\n", "3: agents must be a table"),
        (
            '[routes.Kimi]\n[routes.Kimi.agents]\nExplore = "X:big"\n',
            '4: agent Explore: there is no proxy "X"',
        ),
        ("[routes.Kimi]\nlong_context = { over = 1 }\n", "3: long_context must name a model"),
        (
            '[routes.Kimi]\nlong_context = { over = 0, model = "big" }\n',
            '3: over of long_context must be a number of tokens, got "0"',
        ),
        (
            '[routes.Kimi]\nlong_context = { ovr = 1, model = "big" }\n',
            '3: ovr is not a key of long_context (did you mean "over"?)',
        ),
        ("fallback = 1\n", "2: fallback must be a table"),
        ('[fallback]\nX = ["Kimi"]\n', '3: fallback: there is no proxy "X"'),
        ('[fallback]\nKimi = ["X"]\n', '3: fallback of Kimi: there is no proxy "X"'),
        ('[fallback]\nKimi = ["kimi"]\n', "3: Kimi cannot be its own fallback"),
        ("[fallback]\nKimi = 1\n", "3: fallback of Kimi must be a list of labels"),
        ("[fallback]\nKimi = []\nkimi = []\n", "3: fallback kimi is set twice; case is ignored"),
        (
            '[routes.Kimi]\nmain = "big"\n[routes.kimi]\nsubagent = "big"\n',
            "2: routes kimi is set twice; case is ignored",
        ),
        (
            '[presets.x]\nbig = "Kimi:big"\n[presets.X]\nbig = "Kimi:big"\n',
            "2: preset X is set twice; case is ignored",
        ),
    ],
)
def test_mistakes(tmp_path, text, mistake):
    assert read(tmp_path, text)[1] == [mistake]


def test_a_colon_may_be_part_of_a_model(tmp_path):
    text = '[routes.Kimi]\nmain = "qwen3:8b"\nbackground = "deepseek/r1:free"\n'
    assert read(tmp_path, text)[1] == []


def env_files(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        file = folder / f"{name}.env"
        file.write_text(text)
        file.chmod(0o600)


KIMI = "PROVIDER=kimi\nPROVIDER_API_KEY=sk-own-1234567890\n"
OPEN = "PROVIDER=openrouter\nPROVIDER_API_KEY=sk-own-1234567890\n"
UNKNOWN_SERVER = "PROVIDER_BASE_URL=http://127.0.0.1:9/v1\nPROVIDER_API_KEY=sk-own-1234567890\n"


@pytest.mark.parametrize(
    ("text", "kimi", "glm", "expected"),
    [
        pytest.param(
            '[routes.Kimi]\nmain = "GLM-4.6:dmo-large"\n',
            KIMI,
            "PROVIDER=demo\n",
            ['3: main: GLM-4.6 has no model "dmo-large" (did you mean "demo-large"?)'],
            id="another entry's",
        ),
        pytest.param(
            '[routes.kimi]\nsubagent = "bigg"\n',
            "PROVIDER=demo\n",
            KIMI,
            ['3: subagent: Kimi has no model "bigg"'],
            id="without a label: the entry's own",
        ),
        pytest.param(
            '[routes.Kimi]\nlong_context = "bigg"\n[routes.Kimi.agents]\nExplore = "biggg"\n',
            "PROVIDER=demo\n",
            KIMI,
            [
                '3: long_context: Kimi has no model "bigg"',
                '5: agent Explore: Kimi has no model "biggg"',
            ],
            id="of every rule",
        ),
        pytest.param(
            '[presets.x]\nbig = "Kimi:bigg"\nsmall = "gpt-4o"\n',
            "PROVIDER=demo\n",
            KIMI,
            ['3: big of preset x: Kimi has no model "bigg"'],
            id="a preset's, where it names an entry",
        ),
        pytest.param(
            '[routes.Kimi]\nmain = "GLM-4.6:big"\n'
            'subagent = "claude-haiku-4-5"\nthinking = "demo-large[1m]"\n',
            "PROVIDER=demo\n",
            "PROVIDER=demo\n",
            [],
            id="tiers, names of Claude's and known ones",
        ),
        pytest.param(
            '[routes.Kimi]\nmain = "GLM-4.6:anyone/new-model"\n',
            KIMI,
            OPEN,
            [],
            id="a provider with an open list",
        ),
        pytest.param(
            '[routes.Kimi]\nmain = "GLM-4.6:unheard-of"\n',
            KIMI,
            "PROVIDER=ollama\n",
            [],
            id="a server with the user's models",
        ),
        pytest.param(
            '[routes.Kimi]\nmain = "Gemini:gemini-4-argon"\n',
            "PROVIDER=demo\n",
            KIMI,
            ['3: main: there is no proxy "Gemini"'],
            id="a label that is not in the table",
        ),
        pytest.param(
            '[presets.x]\nbig = "GLM-46:glm-5.3"\n[routes.Kimi]\nmain = "GLM-46:glm-5.3"\n',
            "PROVIDER=demo\n",
            KIMI,
            ['5: main: there is no proxy "GLM-46" (did you mean "GLM-4.6"?)'],
            id="a misspelt label",
        ),
        pytest.param(
            '[routes.Kimi]\nmain = "GLM-4.6:my-deployment"\n',
            KIMI,
            "PROVIDER=azure\nPROVIDER_BASE_URL=https://r.openai.azure.com\n"
            "PROVIDER_API_KEY=sk-own-1234567890\n",
            [],
            id="names that the user gave",
        ),
        pytest.param(
            '[routes.Kimi]\nmain = "GLM-4.6:claude-next"\n',
            KIMI,
            "PROVIDER=anthropic\nPROVIDER_API_KEY=sk-ant-own-1234567890\n",
            [],
            id="a provider that gets names unchanged",
        ),
        pytest.param(
            '[routes.Kimi]\nmain = "kimi-k9"\n',
            f"{KIMI}PASS_MODELS=nothing-else\n",
            KIMI,
            [],
            id="of the provider's family",
        ),
        pytest.param(
            '[routes.Kimi]\nmain = "GLM-4.6:anything"\n',
            KIMI,
            UNKNOWN_SERVER,
            [],
            id="a server without a preset",
        ),
        pytest.param(
            '[routes.Kimi]\nmain = "bigg"\n',
            "PROVIDER=demo\nPASS_MODELS=bigg\n",
            KIMI,
            [],
            id="let pass",
        ),
    ],
)
def test_models_are_checked_as_a_switch_checks_them(tmp_path, text, kimi, glm, expected):
    (tmp_path / "ccproxy.toml").write_text(TABLE + text)
    env_files(tmp_path, a=kimi, b=glm)
    result = check_fleet(tmp_path / "ccproxy.toml").mistakes
    assert [f"{mistake.line}: {mistake.text}" for mistake in result] == expected
    for mistake in result:
        if "there is no proxy" in mistake.text:
            assert mistake.fix == "the labels are Kimi, GLM-4.6"
        else:
            assert mistake.fix.startswith("use one of ")
            assert "or allow it: PASS_MODELS=" in mistake.fix


def test_the_models_of_an_entry_with_a_mistake_are_not_checked(tmp_path):
    (tmp_path / "ccproxy.toml").write_text(TABLE + '[routes.Kimi]\nmain = "bigg"\n')
    env_files(tmp_path, a="PROVIDER=demo\nMAX_RETRIES=many\n", b="PROVIDER=demo\n")
    expected = [mistake.text for mistake in check_fleet(tmp_path / "ccproxy.toml").mistakes]
    assert expected == ['MAX_RETRIES must be a whole number from 0 to 99, got "many"']


def test_mistakes_in_routes_and_in_tiers_are_both_reported(tmp_path):
    (tmp_path / "ccproxy.toml").write_text(TABLE + '[routes.Kimi]\nmain = "X:small"\n')
    env_files(
        tmp_path, a="PROVIDER=demo\nBIG_MODEL=GLM:big\n", b="PROVIDER=demo\nBIG_MODEL=Kimi:big\n"
    )
    expected = [mistake.text for mistake in check_fleet(tmp_path / "ccproxy.toml").mistakes]
    assert expected == [
        'BIG_MODEL: there is no proxy "GLM" (did you mean "GLM-4.6"?)',
        'main: there is no proxy "X"',
    ]
