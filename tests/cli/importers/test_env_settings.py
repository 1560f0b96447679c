"""Env files of the claude-code-proxy family, as in their templates."""

from __future__ import annotations

import pytest

FUERGAOSI = """\
# Required: Your OpenAI API key
OPENAI_API_KEY="sk-proj-0123456789abcdef"
ANTHROPIC_API_KEY="my-client-key-0123456789"
OPENAI_BASE_URL="https://api.openai.com/v1"
BIG_MODEL="gpt-4o"
MIDDLE_MODEL="gpt-4o"
SMALL_MODEL="gpt-4o-mini"
HOST="0.0.0.0"
PORT="8082"
LOG_LEVEL="INFO"
MAX_TOKENS_LIMIT="4096"
MIN_TOKENS_LIMIT="100"
REQUEST_TIMEOUT="90"
MAX_RETRIES="2"
SUPPORTS_PROMPT_CACHE="false"
CUSTOM_HEADER_X_TEAM="blue"
"""
GOOGLE = """\
export ANTHROPIC_API_KEY="your-anthropic-api-key" # Needed if proxying *to* Anthropic
OPENAI_API_KEY="sk-0123456789abcdef"
GEMINI_API_KEY="AIzaSy0123456789abcdefghij"
PREFERRED_PROVIDER="google"
BIG_MODEL="gemini/gemini-2.5-pro"
SMALL_MODEL="gemini-2.0-flash"
"""
GROQ = """\
API_KEY=gsk_0123456789abcdefghij
BASE_URL=https://api.groq.com/openai/v1
MODEL_NAME=moonshotai/kimi-k2-instruct
MAX_OUTPUT_TOKENS=16384
"""
OLLAMA = """\
OPENAI_API_KEY=dummy-key
OPENAI_BASE_URL=http://localhost:11434/v1
BIG_MODEL=llama3.1:70b
SMALL_MODEL=llama3.1:8b
"""


@pytest.fixture
def write(home):
    def write(text):
        (home / ".env").write_text(text)
        return home / ".env"

    return write


def imported(checked):
    (label,) = set(checked.workers) - {"Kimi-K2", "GLM-4.6"}
    return checked.workers[label]


def test_the_settings_have_the_same_names(write, run_import, ccproxy):
    done, checked = run_import(write(FUERGAOSI))
    assert ccproxy("check").exit_code == 0
    worker = imported(checked)
    assert (worker.label, worker.provider) == ("openai", "openai")
    assert (worker.models.big, worker.models.small) == ("gpt-4o", "gpt-4o-mini")
    assert worker.client_keys == ("my-client-key-0123456789",)
    assert (worker.max_tokens_limit, worker.min_tokens_limit) == (4096, 100)
    assert (worker.request_timeout, worker.host) == (90, "127.0.0.1")
    assert worker.custom_headers["X-Team"] == "blue"
    assert "HOST: an entry listens on 127.0.0.1" in done.stdout
    assert "SUPPORTS_PROMPT_CACHE: ccproxy has no such setting" in done.stdout
    assert "0123456789" not in done.stdout


def test_a_preferred_provider_selects_preset_and_key(write, run_import):
    done, checked = run_import(write(GOOGLE))
    worker = imported(checked)
    assert (worker.provider, worker.models.big) == ("gemini", "gemini-2.5-pro")
    assert worker.api_keys == ("AIzaSy0123456789abcdefghij",)
    assert len(worker.client_keys[0]) > 40, "a new one: the file has none"
    assert "OPENAI_API_KEY: PREFERRED_PROVIDER selects another provider" in done.stdout


@pytest.mark.parametrize(
    ("text", "provider", "model"),
    [(GROQ, "groq", "moonshotai/kimi-k2-instruct"), (OLLAMA, "ollama", "llama3.1:70b")],
)
def test_other_names_and_servers(write, run_import, text, provider, model):
    _, checked = run_import(write(text))
    worker = imported(checked)
    assert (worker.models.big, worker.api_keys != ()) == (model, True)
    assert worker.provider == provider or "11434" in worker.base_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1\n", "names no provider"),
        pytest.param(f"A=a{' ' * 500_000}b\n", "names no provider", id="a run of blanks"),
        ("OPENAI_API_KEY=sk-0123456789ab\nOPENAI_BASE_URL=nonsense\n", "PROVIDER_BASE_URL"),
    ],
)
def test_a_file_without_a_provider_is_refused(write, refused, text, expected):
    assert expected in refused(write(text))


def test_lines_that_cannot_be_parsed_are_left_out(write, run_import, caplog):
    done, checked = run_import(write(f"{GROQ}A='open\n# a comment\n= b\n"))
    assert imported(checked).provider == "groq"
    line = GROQ.count("\n") + 1
    assert f"2 lines: not NAME=value, the first at line {line}" in done.stdout
    assert caplog.records == [], "no message of the parser"


def test_a_wrong_value_is_left_out(write, run_import):
    done, checked = run_import(write(GROQ + "REQUEST_TIMEOUT=90s\n"))
    assert imported(checked).request_timeout == 600
    assert "REQUEST_TIMEOUT: must be a number of seconds" in done.stdout


def test_no_secret_is_printed(write, ccproxy):
    settings = (
        *(
            "SIGNING_KEY=",
            "WEB_SEARCH_KEY=tvly-",
            "OIDC_CLIENT_SECRET=",
            "TRACES_HEADERS=a=Bearer ",
        ),
        *("REDIS_URL=redis://:", "UPSTREAM_PROXY=http://u:", "CUSTOM_HEADER_X=a;"),
    )
    secret = "0123456789abcdef0123456789abcdef"
    ends = {"REDIS_URL=redis://:": "@h/0", "UPSTREAM_PROXY=http://u:": "@h:1"}
    text = "".join(f"{start}{secret}{ends.get(start, '')}\n" for start in settings)
    done = ccproxy("import", write(f"{GROQ}{text}"))
    assert done.exit_code == 0, done.stderr
    assert secret not in done.stdout + done.stderr
    for start in settings:
        assert start.partition("=")[0] in done.stdout
