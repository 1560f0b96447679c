"""Every mistake in an env file: text, line and fix."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ccproxy.config.fleet import Entry
from ccproxy.config.worker_config import load_worker
from tests.user_files import AUTHORITY

KEY = "sk-provider-000000001"
HEAD = f"PROVIDER=kimi\nPROVIDER_API_KEY={KEY}\n"
X = "envs/x.env"
PRESETS = (
    "openai, azure, kimi, kimi-code, zai, bigmodel, minimax, gemini, deepseek, qwen, modelscope, "
    "doubao, openrouter, requesty, groq, cerebras, mistral, xai, nim, copilot, mimo, meta, "
    "stepfun, tencent, longcat, opencode, opencode-go, vercel, fireworks, together, siliconflow, "
    "novita, deepinfra, baseten, nebius, chutes, huggingface, ollama-cloud, ollama, lmstudio, "
    "vllm, sglang, llamacpp, anthropic, demo"
)


def lines(*expected):
    return "\n      fix: ".join(expected)


ONE_SETTING = [
    pytest.param(
        "BIG_MODLE=x",
        'BIG_MODLE is not a setting (did you mean "BIG_MODEL"?)',
        "rename it to BIG_MODEL, or remove it",
        id="a typing mistake",
    ),
    pytest.param(
        "big_model=x",
        'big_model is not a setting (did you mean "BIG_MODEL"?)',
        "rename it to BIG_MODEL, or remove it",
        id="small letters",
    ),
    pytest.param(
        "OPENAI_API_KEYS=x",
        'OPENAI_API_KEYS is not a setting (did you mean "OPENAI_API_KEY"?)',
        "rename it to OPENAI_API_KEY, or remove it",
        id="one letter more",
    ),
    pytest.param(
        "PROVIDER_TIMEOUT=5",
        'PROVIDER_TIMEOUT is not a setting (did you mean "REQUEST_TIMEOUT"?)',
        "rename it to REQUEST_TIMEOUT, or remove it",
        id="PROVIDER_ is ours",
    ),
    pytest.param(
        "PROVIDER_KEY=x",
        'PROVIDER_KEY is not a setting (did you mean "PROVIDER_API_KEY"?)',
        "rename it to PROVIDER_API_KEY, or remove it",
        id="another word for the key",
    ),
    pytest.param(
        "OPUS_MODEL=x",
        'OPUS_MODEL is not a setting (did you mean "BIG_MODEL"?)',
        "rename it to BIG_MODEL, or remove it",
        id="another word for a tier",
    ),
    pytest.param(
        "HAIKU_MODEL=x",
        'HAIKU_MODEL is not a setting (did you mean "SMALL_MODEL"?)',
        "rename it to SMALL_MODEL, or remove it",
        id="another word for the small tier",
    ),
    pytest.param(
        "MAX_RETRY=5",
        'MAX_RETRY is not a setting (did you mean "MAX_RETRIES"?)',
        "rename it to MAX_RETRIES, or remove it",
        id="nearly the name",
    ),
    pytest.param(
        "CUSTOM_HEADERS=x",
        'CUSTOM_HEADERS is not a setting (did you mean "CUSTOM_HEADER_<NAME>"?)',
        "rename it to CUSTOM_HEADER_<NAME>, or remove it",
        id="custom headers, all at once",
    ),
    pytest.param(
        "custom_header_x=1",
        'custom_header_x is not a setting (did you mean "CUSTOM_HEADER_X"?)',
        "rename it to CUSTOM_HEADER_X, or remove it",
        id="a custom header in small letters",
    ),
    pytest.param(
        "REQUEST_TIMEOUT=90s",
        'REQUEST_TIMEOUT must be a number of seconds, got "90s"',
        "for example, write REQUEST_TIMEOUT=600",
        id="a unit",
    ),
    pytest.param(
        "MAX_RETRIES=many",
        'MAX_RETRIES must be a whole number from 0 to 99, got "many"',
        "for example, write MAX_RETRIES=2",
        id="a word for a number",
    ),
    pytest.param(
        "MAX_TOKENS_LIMIT=8k",
        'MAX_TOKENS_LIMIT must be a whole number of tokens from 1 to 999999999, got "8k"',
        "for example, write MAX_TOKENS_LIMIT=32000",
        id="a short form",
    ),
    pytest.param(
        "LOG_LEVEL=loud",
        'LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL, got "loud"',
        "for example, write LOG_LEVEL=INFO",
        id="no level",
    ),
    pytest.param(
        "PASS_CLIENT_KEY=perhaps",
        'PASS_CLIENT_KEY must be on or off, got "perhaps"',
        "for example, write PASS_CLIENT_KEY=on",
        id="neither on nor off",
    ),
    pytest.param(
        "PROVIDER_API=grpc",
        'PROVIDER_API must be auto, chat, responses or messages, got "grpc"',
        "for example, write PROVIDER_API=responses",
        id="an API that is not spoken",
    ),
    pytest.param(
        "PROVIDER_BASE_URL=api.x",
        'PROVIDER_BASE_URL must be an http:// or https:// address, got "api.x"',
        "for example, write PROVIDER_BASE_URL=https://api.example.com/v1",
        id="no address",
    ),
    pytest.param(
        "OPENAI_BASE_URL=htps://x.y",
        'OPENAI_BASE_URL must be an http:// or https:// address, got "htps://x.y"',
        "for example, write OPENAI_BASE_URL=https://api.example.com/v1",
        id="under its old name",
    ),
    pytest.param(
        "PROVIDER_BASE_URL=http://api.x.com",
        'PROVIDER_BASE_URL would send the key unencrypted, got "http://api.x.com"',
        "for example, write PROVIDER_BASE_URL=https://api.example.com/v1",
        id="http to the world",
    ),
    pytest.param(
        "PORT=70000",
        'PORT must be a port from 1 to 65535, got "70000"',
        "for example, write PORT=8081",
        id="no port",
    ),
    pytest.param(
        "ANTHROPIC_API_KEY=changeme",
        "ANTHROPIC_API_KEY contains a placeholder, not a key (…)",
        "for example, write ANTHROPIC_API_KEY=ccp_…",
        id="a placeholder for the client",
    ),
    pytest.param(
        "ANTHROPIC_API_KEY=,",
        "ANTHROPIC_API_KEY contains no key, only commas",
        "for example, write ANTHROPIC_API_KEY=ccp_…",
        id="commas do not open the door",
    ),
    pytest.param(
        "UPSTREAM_PROXY=u:secret@h",
        "UPSTREAM_PROXY must be the http:// address of a proxy",
        "for example, write UPSTREAM_PROXY=http://proxy.example:3128",
        id="a proxy is not quoted",
    ),
    pytest.param(
        "CA_BUNDLE=no.pem",
        'CA_BUNDLE must be a file of certificates, got "no.pem"',
        "correct the path, or remove it",
        id="no such certificates",
    ),
    pytest.param(
        "CUSTOM_HEADER_HOST=x",
        "CUSTOM_HEADER_HOST is not allowed: Host is a header of the connection",
        "remove it",
        id="a header that frames",
    ),
    pytest.param(
        "CUSTOM_HEADER_PROXY_AUTHORIZATION=x",
        "CUSTOM_HEADER_PROXY_AUTHORIZATION is not allowed: Proxy-Authorization is a "
        "header of the connection",
        "remove it",
        id="a header for a proxy",
    ),
    pytest.param(
        'CUSTOM_HEADER_X="a\\r\\nHost: evil"',
        "CUSTOM_HEADER_X contains a line break or another control character",
        "write its value on one line",
        id="a header that breaks out",
    ),
    pytest.param(
        "CUSTOM_HEADER_X(Y)=1",
        "CUSTOM_HEADER_X(Y) does not name a header: only letters, digits and _ may follow",
        "for example, write CUSTOM_HEADER_X_TEAM=blue",
        id="a name that no header has",
    ),
    pytest.param(
        "CUSTOM_HEADER_=1",
        "CUSTOM_HEADER_ does not name a header: only letters, digits and _ may follow",
        "for example, write CUSTOM_HEADER_X_TEAM=blue",
        id="no name at all",
    ),
    pytest.param(
        "MAX_RETRIES",
        "MAX_RETRIES has no value",
        "write MAX_RETRIES=value, or remove the line",
        id="a name alone",
    ),
    pytest.param(
        "CUSTOM_HEADER_X_TEAM",
        "CUSTOM_HEADER_X_TEAM has no value",
        "write CUSTOM_HEADER_X_TEAM=value, or remove the line",
        id="the name of a header alone",
    ),
    pytest.param(
        'BIG_MODEL="open',
        "the quote of BIG_MODEL is not closed",
        'close it: BIG_MODEL="…"',
        id="an open quote",
    ),
    pytest.param(
        "BIG_MODEL='one\nMAX_RETRIES=many\nSMALL_MODEL='two'",
        "the quote of BIG_MODEL is not closed: the lines up to 8 were not read",
        "close it: BIG_MODEL='…'",
        id="an open quote that includes later lines",
    ),
    pytest.param(
        'export BIG_MODEL="one" two',
        "this line is not NAME=value",
        "check the quotes on this line, or remove it",
        id="text after the quotes",
    ),
    pytest.param(
        "big model: kimi",
        "this line is not NAME=value",
        "check the quotes on this line, or remove it",
        id="another way of writing",
    ),
]


NO_CERTIFICATE = (
    "contains no certificate",
    "save the authority's certificate as PEM text: -----BEGIN CERTIFICATE-----",
)
DAMAGED = ("is truncated or damaged", "save the complete file again")
SECRET = (
    "contains a private key",
    "keep only the certificates in it",
)
PRIVATE = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("bundle", "text", "fix"),
    [
        pytest.param("", *NO_CERTIFICATE, id="empty"),
        pytest.param("not a certificate\n", *NO_CERTIFICATE, id="something else"),
        pytest.param(AUTHORITY[:300], *DAMAGED, id="cut off"),
        pytest.param(AUTHORITY + AUTHORITY[:300], *DAMAGED, id="its second one is cut off"),
        pytest.param(AUTHORITY.replace("M", "-"), *DAMAGED, id="damaged"),
        pytest.param(PRIVATE, *SECRET, id="a private key only"),
        pytest.param(AUTHORITY + PRIVATE, *SECRET, id="a private key, too"),
    ],
)
def test_a_file_that_is_not_a_ca_bundle(write, complaints, bundle, text, fix):
    write("envs/own.pem", bundle)
    file = write(X, f"{HEAD}CA_BUNDLE=own.pem\n")
    assert complaints(load_worker, file) == [lines(f'{X}:3: CA_BUNDLE "own.pem" {text}', fix)]


def test_a_bundle_of_several_authorities_is_valid(write):
    bundle = write("envs/own.pem", f"# ours\n{AUTHORITY}\n# theirs\n{AUTHORITY}")
    assert load_worker(write(X, f"{HEAD}CA_BUNDLE=own.pem\n")).ca_bundle == bundle


@pytest.mark.parametrize(("line", "text", "fix"), ONE_SETTING)
def test_a_mistake_in_one_line(write, complaints, line, text, fix):
    file = write(X, f"{HEAD}\n# a comment\n\n{line}\n")
    assert complaints(load_worker, file) == [lines(f"{X}:6: {text}", fix)]


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("TIMEOUT", "REQUEST_TIMEOUT"),
        ("TIMEOUT_SECONDS", "REQUEST_TIMEOUT"),
        ("REQUEST_TIMEOUTS", "REQUEST_TIMEOUT"),
        ("RETRIES", "MAX_RETRIES"),
        ("MAXRETRIES", "MAX_RETRIES"),
        ("API_KEY", "PROVIDER_API_KEY"),
        ("BASE_URL", "PROVIDER_BASE_URL"),
        ("OPENAI_API_BASE", "PROVIDER_BASE_URL"),
        ("KEY_MAX_INFLIGHT", "KEY_MAX_IN_FLIGHT"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("LOG-LEVEL", "LOG_LEVEL"),
        ("REGION", "PROVIDER_REGION"),
        ("CUSTOM_HEADERS_X", "CUSTOM_HEADER_X"),
        ("CUSTOM_HEADERS_X_TEAM", "CUSTOM_HEADER_X_TEAM"),
        ("CUSTOMHEADER_X", "CUSTOM_HEADER_X"),
        ("CUSTOM_HEADR_X", "CUSTOM_HEADER_X"),
        ("Custom_Headers_x", "CUSTOM_HEADER_X"),
        ("EXTRA_HEADERS", "CUSTOM_HEADER_<NAME>"),
    ],
)
def test_a_name_that_resembles_a_setting_is_reported(write, complaints, name, setting):
    [text] = complaints(load_worker, write(X, f"{HEAD}{name}=1\n"))
    assert f'{X}:3: {name} is not a setting (did you mean "{setting}"?)' in text
    assert f"rename it to {setting}, or remove it" in text


@pytest.mark.parametrize(
    "line",
    [
        *("EMBEDDING_MODEL=x", "XAI_API_KEY=x", "GEMINI_API_KEY=x", "ANTHROPIC_BASE_URL=x"),
        *("ANTHROPIC_AUTH_TOKEN=x", "HTTPS_PROXY=x", "PREFERRED_PROVIDER=x", "HOSTNAME=x"),
        *("OLLAMA_HOST=x", "PATH=/bin", "A_NAME_ALONE", "MAX_TOKENS=1"),
    ],
)
def test_names_of_other_programs_are_ignored(write, line):
    assert load_worker(write(X, f"{HEAD}{line}\n"))


# Several settings together.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "PROVIDER=kimmi\nPROVIDER_API_KEY=sk-1",
            lines(
                f'{X}:1: PROVIDER must be the name of a preset, got "kimmi" (did you mean "kimi"?)',
                f"choose one of {PRESETS}, or remove it",
            ),
            id="an unknown preset",
        ),
        pytest.param(
            "PROVIDER=kimi",
            lines(
                f"{X}:1: PROVIDER_API_KEY is missing: Kimi requires a key",
                "add PROVIDER_API_KEY=your key; "
                "get one at https://platform.kimi.ai/console/api-keys",
            ),
            id="no key",
        ),
        pytest.param(
            "PROVIDER=kimi\nPROVIDER_API_KEY=",
            lines(
                f"{X}:2: PROVIDER_API_KEY is empty: Kimi requires a key",
                "give it a value: PROVIDER_API_KEY=your key; "
                "get one at https://platform.kimi.ai/console/api-keys",
            ),
            id="an empty key",
        ),
        pytest.param(
            "OPENAI_BASE_URL=http://gpu:8000/v1\nOPENAI_API_KEY=",
            lines(
                f"{X}:2: OPENAI_API_KEY is empty: an OpenAI-compatible server requires a key",
                "give it a value: OPENAI_API_KEY=your key",
            ),
            id="an empty key under its old name",
        ),
        pytest.param(
            "",
            lines(
                f"{X}: PROVIDER_API_KEY is missing: OpenAI requires a key",
                "add PROVIDER_API_KEY=your key; get one at https://platform.openai.com/api-keys",
            ),
            id="nothing at all means OpenAI",
        ),
        pytest.param(
            "OPENAI_BASE_URL=http://gpu:8000/v1",
            lines(
                f"{X}: PROVIDER_API_KEY is missing: an OpenAI-compatible server requires a key",
                "add PROVIDER_API_KEY=your key",
            ),
            id="an unknown server wants one, too",
        ),
        pytest.param(
            "PROVIDER=kimi\nPROVIDER_API_KEY=sk-1,your-api-key-0001",
            lines(
                f"{X}:2: PROVIDER_API_KEY (key 2 of 2) contains a placeholder, not a key (…0001)",
                "for example, write PROVIDER_API_KEY=sk-…",
            ),
            id="a placeholder",
        ),
        pytest.param(
            f"PROVIDER=azure\nPROVIDER_API_KEY={KEY}",
            lines(
                f"{X}:1: PROVIDER_BASE_URL is missing: Azure OpenAI has no known address",
                "add PROVIDER_BASE_URL=https://RESOURCE.openai.azure.com",
            ),
            id="a provider without an address of its own",
        ),
        pytest.param(
            f"PROVIDER=openai\nPROVIDER_API_KEY={KEY}\nPROVIDER_API=messages",
            lines(
                f"{X}:3: PROVIDER_BASE_URL is missing: OpenAI has no known Messages endpoint",
                "add PROVIDER_BASE_URL=https://api.example.com/v1",
            ),
            id="direct mode without an endpoint",
        ),
        pytest.param(
            f"{HEAD}PROVIDER_REGION=chine",
            lines(
                f'{X}:3: PROVIDER_REGION: Kimi has no address "chine" (did you mean "china"?)',
                "use one of international, china, coding-plan, china-coding-plan, "
                "or set PROVIDER_BASE_URL",
            ),
            id="an unknown region",
        ),
        pytest.param(
            f"{HEAD}PROVIDER_REGION=china\nPROVIDER_PLAN=token-plan",
            lines(
                f"{X}:4: PROVIDER_REGION and PROVIDER_PLAN: "
                'Kimi has no address "china-token-plan" (did you mean "china-coding-plan"?)',
                "use one of international, china, coding-plan, china-coding-plan, "
                "or set PROVIDER_BASE_URL",
            ),
            id="a plan that the region does not have",
        ),
        pytest.param(
            f"PROVIDER_BASE_URL=https://x.example\nPROVIDER_API_KEY={KEY}\nPROVIDER_PLAN=coding",
            lines(
                f"{X}:3: PROVIDER_PLAN has no effect without PROVIDER",
                "set PROVIDER to the name of the preset, or remove this line",
            ),
            id="a plan of no provider",
        ),
        pytest.param(
            f"PROVIDER=groq\nPROVIDER_API_KEY={KEY}\nPROVIDER_REGION=china",
            lines(
                f'{X}:3: PROVIDER_REGION: Groq has no address "china"',
                "remove it, or set PROVIDER_BASE_URL",
            ),
            id="a provider with one address",
        ),
        *(
            pytest.param(
                f"{HEAD}PROVIDER_BASE_URL={url}",
                lines(
                    f'{X}:3: PROVIDER_BASE_URL "{url}" is an endpoint of the Messages API, but '
                    "PROVIDER_API is chat",
                    "set PROVIDER_API=messages, "
                    "or write the address of the OpenAI-compatible endpoint",
                ),
                id=f"a Messages endpoint in chat mode: {url}",
            )
            for url in (
                "https://api.moonshot.ai/anthropic",
                "https://api.z.ai/api/anthropic",
                "https://api.moonshot.ai/anthropic/v1",
                "https://api.moonshot.ai/anthropic/v1/messages",
            )
        ),
        pytest.param(
            f"{HEAD}PROVIDER_API=messages\nPROVIDER_BASE_URL=https://x.example/v1/chat/completions",
            lines(
                f'{X}:4: PROVIDER_BASE_URL "https://x.example/v1/chat/completions" '
                "is not a Messages API endpoint, but PROVIDER_API is messages",
                "set PROVIDER_API=chat, or write the address of the Messages endpoint",
            ),
            id="a chat endpoint in direct mode",
        ),
        pytest.param(
            f"{HEAD}MAX_TOKENS_LIMIT=10\nMIN_TOKENS_LIMIT=20",
            lines(
                f"{X}:4: MIN_TOKENS_LIMIT is 20, above MAX_TOKENS_LIMIT, which is 10",
                "lower MIN_TOKENS_LIMIT, or raise MAX_TOKENS_LIMIT",
            ),
            id="the least above the most",
        ),
    ],
)
def test_settings_that_contradict_each_other(write, complaints, text, expected):
    assert complaints(load_worker, write(X, text)) == [expected]


def test_all_mistakes_are_reported_in_the_order_of_the_file(write, complaints):
    text = "EARLY_COMMIT=soon\nPROVIDER=kimmi\nBIG_MODLE=x\nPROVIDER_API_KEY=sk-xxx\nHOST=0.0.0.0\n"
    expected = complaints(load_worker, write(X, text))
    assert [one.split(" ")[1] for one in expected] == [
        "EARLY_COMMIT",
        "PROVIDER",
        "BIG_MODLE",
        "PROVIDER_API_KEY",
        "HOST",
    ]


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param('PROVIDER_API_KEY="sk-secret-0001', id="an open quote"),
        pytest.param("PROVIDER_API_KEY", id="a name alone"),
        pytest.param("PROVIDER_API_KEY: sk-secret-0001", id="another way of writing"),
    ],
)
def test_a_broken_line_neither_hides_nor_causes_other_mistakes(write, complaints, broken):
    text = f"PROVIDER=kimi\n{broken}\nMAX_RETRIES=many\nHOST=0.0.0.0\nBIG_MODLE=x\n"
    expected = complaints(load_worker, write(X, text))
    assert [one.split(" ")[0] for one in expected] == [f"{X}:{line}:" for line in (2, 3, 5)]


def test_an_empty_setting_is_reported_despite_a_broken_line(write, complaints):
    expected = complaints(load_worker, write(X, 'PROVIDER=kimi\nPROVIDER_API_KEY=\nBIG_MODEL="a\n'))
    assert [one.split(" ")[:4] for one in expected] == [
        [f"{X}:2:", "PROVIDER_API_KEY", "is", "empty:"],
        [f"{X}:3:", "the", "quote", "of"],
    ]


def test_a_mistake_never_contains_a_whole_key(write, complaints):
    secret = "sk-0123456789 abcdefgh"
    text = f"PROVIDER=kimi\nPROVIDER_API_KEY='{secret}'\nCUSTOM_HEADER_X_KEY=\"{secret}\\n\"\n"
    expected = "\n".join(complaints(load_worker, write(X, text)))
    assert "0123456789" not in expected
    assert "…efgh" in expected


def test_a_broken_line_is_not_quoted(write, complaints):
    [expected] = complaints(load_worker, write(X, f'{HEAD}PROVIDER_API_KEY="sk-secret-0001\n'))
    assert "secret" not in expected


# Public addresses.

LONG = "ccp_0123456789abcdef"
OPT_IN = "or set ALLOW_PUBLIC=on if everyone may use your keys"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "box.example.com"])
def test_a_public_address_requires_a_client_key(write, complaints, host):
    assert complaints(load_worker, write(X, f"{HEAD}HOST={host}\n")) == [
        lines(
            f'{X}:3: HOST "{host}" can be reached by others, but no client key is required',
            f"set ANTHROPIC_API_KEY to a long random string, {OPT_IN}",
        )
    ]


def test_a_public_address_requires_a_long_client_key(write, complaints):
    text = f"{HEAD}HOST=0.0.0.0\nANTHROPIC_API_KEY={LONG},secret-word-15x\n"
    assert complaints(load_worker, write(X, text)) == [
        lines(
            f'{X}:4: ANTHROPIC_API_KEY (…-15x) is too short for HOST "0.0.0.0"',
            f"use at least 16 characters, {OPT_IN}",
        )
    ]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"HOST=0.0.0.0\nANTHROPIC_API_KEY={LONG}", id="a long key"),
        pytest.param("HOST=0.0.0.0\nALLOW_PUBLIC=on", id="on purpose"),
        pytest.param("HOST=::1", id="loopback"),
        pytest.param("HOST=localhost\nANTHROPIC_API_KEY=x", id="any key will do on loopback"),
        pytest.param("HOST=127.0.0.2", id="all of 127"),
    ],
)
def test_allowed_addresses(write, text):
    assert load_worker(write(X, f"{HEAD}{text}\n"))


def test_the_opt_in_must_be_on(write, complaints):
    [expected] = complaints(load_worker, write(X, f"{HEAD}HOST=0.0.0.0\nALLOW_PUBLIC=off\n"))
    assert "can be reached by others" in expected


# The table and the env file.


def entry_of(write, port=8081):
    table = write("ccproxy.toml", f'proxies = [\n  "{port}:{X}:Kimi",\n]\n')
    return Entry(port=port, env_file=table.parent / X, label="Kimi", table=table, line=2)


def test_another_port_shows_both_lines(write, complaints):
    file = write(X, f"{HEAD}PORT=8082\n")
    assert complaints(load_worker, file, entry=entry_of(write)) == [
        f"{X}:3: PORT is 8082 here, but Kimi has port 8081 in the table\n"
        f"      {X}:3   PORT=8082\n"
        "      ccproxy.toml:2   8081:…:Kimi\n"
        "      fix: remove PORT; the port in the table is used"
    ]


def test_the_same_port_is_allowed(write):
    assert load_worker(write(X, f"{HEAD}PORT=8081\n"), entry=entry_of(write)).port == 8081


def test_a_missing_env_file_is_reported_at_its_line_of_the_table(write, complaints):
    entry = entry_of(write)
    assert complaints(load_worker, entry.env_file, entry=entry) == [
        lines(f'ccproxy.toml:2: the env file "{X}" of Kimi does not exist', f"create {X}")
    ]


def test_the_template_of_a_missing_env_file_is_the_fix(write, complaints):
    write(f"{X}.example", "PROVIDER=kimi")
    entry = entry_of(write)
    [expected] = complaints(load_worker, entry.env_file, entry=entry)
    assert expected.endswith(f"fix: cp {X}.example {X}")


def test_a_missing_env_file_without_a_table(here, complaints):
    assert complaints(load_worker, here / X) == [
        lines(f"{X}: this env file does not exist", f"create {X}")
    ]


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://127.0.0.1:8081/v1", 8081),
        ("http://localhost:8081", 8081),
        ("http://[::1]:8081/v1", 8081),
        ("http://0.0.0.0:8081/v1", 8081),
        ("http://127.0.0.1:8085/v1", 8085),
    ],
)
def test_the_provider_must_not_be_a_proxy_of_the_fleet(write, complaints, url, port):
    file = write(X, f"{HEAD}PROVIDER_BASE_URL={url}\n")
    expected = complaints(load_worker, file, entry=entry_of(write), ports={8085: "GLM"})
    label = {8081: "Kimi", 8085: "GLM"}[port]
    assert expected == [
        lines(
            f'{X}:3: PROVIDER_BASE_URL must not be the address of the proxy {label}, got "{url}"',
            "write the address of the provider itself",
        )
    ]


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8099/v1", "http://192.168.1.5:8081/v1", "https://api.x.com/v1"]
)
def test_other_ports_and_machines_are_allowed(write, url):
    file = write(X, f"{HEAD}PROVIDER_BASE_URL={url}\n")
    assert load_worker(file, entry=entry_of(write), ports={8085: "GLM"}).base_url == url


# The mode of the file.


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602])
def test_a_key_that_others_can_read_is_refused(write, complaints, mode):
    file = write(X, HEAD)
    file.chmod(mode)
    assert complaints(load_worker, file) == [
        lines(f"{X}: contains a key and is readable by other users", f"chmod 600 {X}")
    ]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("PROVIDER=ollama\nANTHROPIC_API_KEY=client-1", id="a client key"),
        pytest.param("PROVIDER=ollama\nCUSTOM_HEADER_X_AUTH=1", id="a header that is one"),
        pytest.param("PROVIDER=ollama\nCUSTOM_HEADER_PASSWORD=1", id="a header with a password"),
        pytest.param("PROVIDER=ollama\nOPENAI_API_KEY=sk-1", id="under its old name"),
        pytest.param("PROVIDER=ollama\nREDIS_URL=redis://:pw@h", id="the password of Redis"),
        pytest.param("PROVIDER=ollama\nREDIS_URL=redis://h?password=pw", id="as a parameter"),
        pytest.param("PROVIDER=ollama\nUPSTREAM_PROXY=http://u:pw@p", id="a proxy's password"),
    ],
)
def test_client_keys_and_secret_headers_are_keys_too(write, complaints, text):
    file = write(X, text)
    file.chmod(0o644)
    [expected] = complaints(load_worker, file)
    assert "contains a key" in expected


@pytest.mark.parametrize(
    "text",
    [
        "PROVIDER=demo",
        "PROVIDER=ollama\nCUSTOM_HEADER_X_TEAM=blue\nPROVIDER_API_KEY=",
        "PROVIDER=ollama\nREDIS_URL=redis://h\nUPSTREAM_PROXY=http://p:3128",
        "PROVIDER=ollama\nREDIS_URL=redis://h?db=1",
        "PROVIDER=ollama\nREDIS_URL=unix:///run/redis@1.sock?db=1",
    ],
)
def test_a_file_without_keys_may_be_read_by_all(write, text):
    file = write(X, text)
    file.chmod(0o644)
    assert load_worker(file)


def test_a_binary_file(write, complaints):
    file = write(X, "")
    file.write_bytes(b"BIG_MODEL=\xff\xfe")
    assert complaints(load_worker, file) == [lines(f"{X}: is not UTF-8 text", "save it as UTF-8")]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["a folder", "a pipe"])
def test_only_a_regular_file_is_read(here, complaints, make):
    (here / X).parent.mkdir()
    make(here / X)
    [expected] = complaints(load_worker, here / X)
    assert expected.startswith(f"{X}: cannot be read: not a regular file")


@pytest.mark.parametrize(
    "setting",
    [
        "CA_BUNDLE={}",
        "USERS={}",
        "PROVIDER_API_KEYS_FILE={}",
        "PUBLIC_URL=https://x.example\nTLS_CERT={0}\nTLS_KEY={0}",
    ],
)
@pytest.mark.parametrize("name", ["x" * 300, "x\0y", "pipe"], ids=["long", "null byte", "pipe"])
def test_a_file_that_cannot_be_read_is_a_mistake(write, complaints, setting, name):
    file = write(X, f"PROVIDER=ollama\n{setting.format(name)}\n")
    os.mkfifo(file.parent / "pipe")
    assert complaints(load_worker, file)


# Without a file.


def test_mistakes_of_the_environment(complaints):
    environ = {"PROVIDER": "kimi", "PROVIDER_API_KEY": "sk-xxx", "REQUEST_TIMEOUT": "90s"}
    assert complaints(load_worker, None, environ=environ) == [
        lines(
            "(environment): PROVIDER_API_KEY contains a placeholder, not a key (…)",
            "for example, write PROVIDER_API_KEY=sk-…",
        ),
        lines(
            '(environment): REQUEST_TIMEOUT must be a number of seconds, got "90s"',
            "for example, write REQUEST_TIMEOUT=600",
        ),
    ]
