"""Presets, routes and fallbacks of ccproxy.toml: what they mean, and every mistake in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccproxy.config.check import check_fleet
from ccproxy.config.choices import Choices, read_choices, shipped_presets
from ccproxy.config.fleet import read_fleet
from ccproxy.routing.names import Tiers
from ccproxy.routing.rules import NO_ROUTING, LongContext, Routing

TABLE = 'proxies = ["8081:a.env:Kimi", "8082:b.env:GLM-4.6"]\n'


def read(folder: Path, text: str, table: str = TABLE) -> tuple[Choices, list[str]]:
    file = folder / "ccproxy.toml"
    file.write_text(table + text)
    fleet, mistakes = read_fleet(file)
    assert mistakes == ()
    choices, found = read_choices(fleet)
    return choices, [f"{mistake.line}: {mistake.text}" for mistake in found]


def test_everything(tmp_path):
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
    choices, mistakes = read(tmp_path, text)
    assert mistakes == []
    assert choices.presets["fast"] == Tiers(big="GLM-4.6:big", small="k3-mini")
    assert choices.routing("KIMI") == Routing(
        rules={"subagent": "GLM-4.6:big"},
        agents={"explore": "small"},
        long_context=LongContext(over=60000, model="GLM-4.6:glm-long"),
    )
    assert choices.routing("GLM-4.6") == Routing(long_context=LongContext(model="Kimi:big"))
    assert choices.fallback("kimi") == ("GLM-4.6",)
    assert choices.fallback("GLM-4.6") == ()


def test_the_long_form_has_its_fallback_with_it(tmp_path):
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
    choices, mistakes = read(tmp_path, "", table)
    assert (mistakes, choices.fallback("kimi")) == ([], ("GLM",))


def test_without_a_word_nothing_is_decided(tmp_path):
    choices, mistakes = read(tmp_path, "")
    assert mistakes == []
    assert choices.routing("Kimi") is NO_ROUTING
    assert choices.presets == shipped_presets()


@pytest.mark.parametrize(
    ("name", "big", "small"),
    [
        ("openai_premium", "gpt-4o", "gpt-4o-mini"),
        ("openai_reasoning", "o1-preview", "gpt-4o-mini"),
        ("gemini_balanced", "gemini-1.5-pro", "gemini-1.5-flash"),
        ("anthropic_pure", "claude-3-5-sonnet-20241022", "claude-3-5-haiku-20241022"),
        ("cross_premium", "gpt-4o", "gemini-1.5-flash"),
        ("cross_balanced", "gemini-1.5-pro", "gpt-4o-mini"),
        ("cross_speed", "claude-3-5-haiku-20241022", "gemini-1.5-flash"),
    ],
)
def test_the_ancestors_presets_are_shipped(name, big, small):
    preset = shipped_presets()[name]
    assert (preset.big, preset.small) == (big, small)
    assert len(shipped_presets()) == 7


def test_the_users_preset_wins_over_a_shipped_one(tmp_path):
    choices, _ = read(tmp_path, '[presets.cross_speed]\nbig = "k3"\n')
    assert choices.presets["cross_speed"] == Tiers(big="k3")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('[presets.x]\nbg = "k3"\n', "3: bg is not known in preset x (did you mean big?)"),
        ("[presets.x]\n", "2: the preset x names no model"),
        ('[presets.x]\nbig = ""\n', '3: big of preset x must name a model, got ""'),
        (
            '[presets.x]\nbig = "GLM-4.7:big"\n',
            '3: big of preset x: there is no proxy "GLM-4.7" (did you mean GLM-4.6?)',
        ),
        ("presets = 1\n", "2: presets must be tables"),
        ("[presets]\nx = 1\n", "3: presets.x must be a table"),
        (
            '[routes.Kmi]\nmain = "big"\n',
            '2: routes.Kmi: there is no proxy "Kmi" (did you mean Kimi?)',
        ),
        ('[routes.GLM-4.6]\nmain = "big"\n', "2: a label with a dot must be quoted: GLM-4.6"),
        (
            '[routes.Kimi]\nbackgrond = "big"\n',
            "3: backgrond is not known in routes of Kimi (did you mean background?)",
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
            "3: ovr is not known in long_context (did you mean over?)",
        ),
        ("fallback = 1\n", "2: fallback must be a table"),
        ('[fallback]\nX = ["Kimi"]\n', '3: fallback: there is no proxy "X"'),
        ('[fallback]\nKimi = ["X"]\n', '3: fallback of Kimi: there is no proxy "X"'),
        ('[fallback]\nKimi = ["kimi"]\n', "3: Kimi cannot be its own fallback"),
        ("[fallback]\nKimi = 1\n", "3: fallback of Kimi must be a list of labels"),
    ],
)
def test_mistakes(tmp_path, text, mistake):
    assert read(tmp_path, text)[1] == [mistake]


def test_colons_of_models_are_none_of_ours(tmp_path):
    text = '[routes.Kimi]\nmain = "qwen3:8b"\nbackground = "deepseek/r1:free"\n'
    assert read(tmp_path, text)[1] == []


def env_files(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        file = folder / f"{name}.env"
        file.write_text(text)
        file.chmod(0o600)


KIMI = "PROVIDER=kimi\nPROVIDER_API_KEY=sk-own-1234567890\n"
OPEN = "PROVIDER=openrouter\nPROVIDER_API_KEY=sk-own-1234567890\n"
NOBODYS = "PROVIDER_BASE_URL=http://127.0.0.1:9/v1\nPROVIDER_API_KEY=sk-own-1234567890\n"


@pytest.mark.parametrize(
    ("text", "kimi", "glm", "told"),
    [
        pytest.param(
            '[routes.Kimi]\nmain = "GLM-4.6:dmo-large"\n',
            KIMI,
            "PROVIDER=demo\n",
            ['3: main: GLM-4.6 has no model "dmo-large" (did you mean demo-large?)'],
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
            id="a server that runs what its user gave it",
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
            id="a provider that gets names as they come",
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
            NOBODYS,
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
def test_check_judges_models_as_a_switch_does(tmp_path, text, kimi, glm, told):
    (tmp_path / "ccproxy.toml").write_text(TABLE + text)
    env_files(tmp_path, a=kimi, b=glm)
    found = check_fleet(tmp_path / "ccproxy.toml").mistakes
    assert [f"{mistake.line}: {mistake.text}" for mistake in found] == told
    for mistake in found:
        assert mistake.fix.startswith("use one of ")
        assert "or let it pass: PASS_MODELS=" in mistake.fix


def test_of_an_entry_with_a_mistake_no_model_is_judged(tmp_path):
    (tmp_path / "ccproxy.toml").write_text(TABLE + '[routes.Kimi]\nmain = "bigg"\n')
    env_files(tmp_path, a="PROVIDER=demo\nMAX_RETRIES=many\n", b="PROVIDER=demo\n")
    told = [mistake.text for mistake in check_fleet(tmp_path / "ccproxy.toml").mistakes]
    assert told == ['MAX_RETRIES must be a whole number from 0 to 99, got "many"']


def test_check_tells_mistakes_of_choices_and_of_tiers(tmp_path):
    (tmp_path / "ccproxy.toml").write_text(TABLE + '[routes.Kimi]\nmain = "X:small"\n')
    env_files(
        tmp_path, a="PROVIDER=demo\nBIG_MODEL=GLM:big\n", b="PROVIDER=demo\nBIG_MODEL=Kimi:big\n"
    )
    told = [mistake.text for mistake in check_fleet(tmp_path / "ccproxy.toml").mistakes]
    assert told == [
        'BIG_MODEL: there is no proxy "GLM" (did you mean GLM-4.6?)',
        'main: there is no proxy "X"',
    ]
