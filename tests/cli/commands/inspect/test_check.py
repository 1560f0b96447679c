"""`ccproxy check`: the configuration as a table, or all its mistakes."""

from __future__ import annotations

import os

import aiohttp

from tests.cli.conftest import KIMI, write_env
from tests.fleet import FleetHome, eventually
from tests.messages import prompt
from tests.provider import completion, failure


def test_a_fleet_in_order(home, ccproxy):
    result = ccproxy("check")
    assert (result.exit_code, result.stderr) == (0, "")
    first, *lines = result.stdout.splitlines()
    assert first == "ccproxy.toml is valid: 2 providers"
    assert lines == [
        "  LABEL     PORT  ENV FILE       PROVIDER    KEYS  MODEL",
        "  Kimi-K2  18081  envs/kimi.env  Kimi           1  kimi-k3.1-pro",
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


# Learned refusals of the provider.

REFUSAL = {"message": "Unsupported parameter: 'temperature'", "code": "unsupported_parameter"}


async def test_learned_refusals_are_shown_and_deleted_in_the_running_worker(tmp_path, provider):
    provider.script(
        lambda call: (
            failure(400, {"error": {**REFUSAL, "param": "temperature"}})
            if "temperature" in call.json
            else completion("ok")
        )
    )
    settings = {"PROVIDER_BASE_URL": provider.url, "PROVIDER_API_KEY": "sk-1"}
    async with FleetHome(tmp_path) as home:
        home.write(Mine={**settings, "BIG_MODEL": "m", "SMALL_MODEL": "m"})
        output = await home.ccproxy("check", "--learned", "mine")
        assert "has not refused" in output.out
        assert (await home.ccproxy("start")).code == 0
        assert await ask(home, temperature=0.5) == 200
        assert await ask(home, temperature=0.5) == 200
        assert [("temperature" in call.json) for call in provider.calls] == [True, False, False]
        await eventually(lambda: learned(home, "temperature"))

        done = await home.ccproxy("check", "--forget", "mine")
        assert done.out == "Mine: deleted; every request feature will be tried again\n"
        assert await ask(home, temperature=0.5) == 200
        assert [("temperature" in call.json) for call in provider.calls[3:]] == [True, False]
        assert (await home.ccproxy("stop")).code == 0
        assert (await home.ccproxy("check", "--forget", "mine")).code == 0
        assert "has not refused" in (await home.ccproxy("check", "--learned", "mine")).out


async def learned(home, feature):
    return feature in (await home.ccproxy("check", "--learned", "mine")).out


async def ask(home, **fields):
    async with aiohttp.ClientSession() as session:
        body = {**prompt(), **fields}
        async with session.post(f"{home.url('Mine')}/v1/messages", json=body) as response:
            await response.read()
            return response.status
