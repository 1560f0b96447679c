"""Base URLs in all forms that users paste."""

from __future__ import annotations

import pytest

from ccproxy.config.addresses import Address

OPENAI = "https://api.openai.com/v1"
AZURE = "https://res.openai.azure.com"
DEPLOYED = f"{AZURE}/openai/deployments"


@pytest.mark.parametrize(
    ("url", "chat"),
    [
        (OPENAI, f"{OPENAI}/chat/completions"),
        (f"{OPENAI}/", f"{OPENAI}/chat/completions"),
        (f"{OPENAI}/chat/completions", f"{OPENAI}/chat/completions"),
        (f"{OPENAI}/chat/completions/", f"{OPENAI}/chat/completions"),
        ("https://api.deepseek.com", "https://api.deepseek.com/chat/completions"),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1/chat/completions"),
    ],
)
def test_chat(url, chat):
    assert Address.parse(url).chat("gpt-4o", azure=False) == chat


@pytest.mark.parametrize(
    ("url", "version", "chat"),
    [
        pytest.param(
            AZURE,
            "2024-10-21",
            f"{DEPLOYED}/gpt-4o/chat/completions?api-version=2024-10-21",
            id="a resource, with a version",
        ),
        pytest.param(
            f"{AZURE}/",
            "2024-10-21",
            f"{DEPLOYED}/gpt-4o/chat/completions?api-version=2024-10-21",
            id="with a slash",
        ),
        pytest.param(
            f"{AZURE}/openai",
            "2024-10-21",
            f"{DEPLOYED}/gpt-4o/chat/completions?api-version=2024-10-21",
            id="with /openai already",
        ),
        pytest.param(
            f"{DEPLOYED}/mine",
            "2024-10-21",
            f"{DEPLOYED}/mine/chat/completions?api-version=2024-10-21",
            id="a deployment: its name stays",
        ),
        pytest.param(
            f"{DEPLOYED}/mine/chat/completions?api-version=2024-06-01",
            "",
            f"{DEPLOYED}/mine/chat/completions?api-version=2024-06-01",
            id="the whole address, as the portal shows it",
        ),
        pytest.param(
            f"{DEPLOYED}/mine/chat/completions?api-version=2024-06-01",
            "2024-10-21",
            f"{DEPLOYED}/mine/chat/completions?api-version=2024-10-21",
            id="the setting wins over the address",
        ),
        pytest.param(
            AZURE, "", f"{AZURE}/openai/v1/chat/completions", id="a resource, without a version"
        ),
        pytest.param(
            f"{AZURE}/openai", "", f"{AZURE}/openai/v1/chat/completions", id="/openai alone"
        ),
        pytest.param(
            f"{AZURE}/openai/v1", "", f"{AZURE}/openai/v1/chat/completions", id="the newer form"
        ),
        pytest.param(
            f"{AZURE}/openai/v1",
            "preview",
            f"{AZURE}/openai/v1/chat/completions?api-version=preview",
            id="the newer form with a version",
        ),
        pytest.param(
            "http://127.0.0.1:9099/v1",
            "",
            "http://127.0.0.1:9099/v1/chat/completions",
            id="a gateway in front of it",
        ),
    ],
)
def test_azure(url, version, chat):
    address = Address.parse(url, api_version=version)
    assert address.chat("gpt-4o", azure=True) == chat


def test_the_name_of_a_deployment_is_quoted():
    address = Address.parse(AZURE, api_version="1")
    assert address.chat("../a?b", azure=True).startswith(f"{DEPLOYED}/..%2Fa%3Fb/chat/completions?")


@pytest.mark.parametrize(
    ("url", "messages"),
    [
        ("https://api.anthropic.com", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1/messages", "https://api.anthropic.com/v1/messages"),
        ("https://api.z.ai/api/anthropic", "https://api.z.ai/api/anthropic/v1/messages"),
        ("https://openrouter.ai/api", "https://openrouter.ai/api/v1/messages"),
        ("https://openrouter.ai/api/v1", "https://openrouter.ai/api/v1/messages"),
    ],
)
def test_messages(url, messages):
    assert Address.parse(url).messages() == messages


@pytest.mark.parametrize(
    ("url", "version", "azure", "responses"),
    [
        ("https://api.openai.com/v1", "", False, "https://api.openai.com/v1/responses"),
        ("https://api.x.ai/v1/responses", "", False, "https://api.x.ai/v1/responses"),
        ("https://r.openai.azure.com", "", True, "https://r.openai.azure.com/openai/v1/responses"),
        (
            "https://r.openai.azure.com/openai/deployments/gpt-4o",
            "2024-10-21",
            True,
            "https://r.openai.azure.com/openai/v1/responses",
        ),
        (
            "https://r.openai.azure.com/openai/v1",
            "preview",
            True,
            "https://r.openai.azure.com/openai/v1/responses?api-version=preview",
        ),
        (
            "https://gateway.example.com/azure/v1",
            "",
            True,
            "https://gateway.example.com/azure/v1/responses",
        ),
    ],
)
def test_responses(url, version, azure, responses):
    """At Azure, the Responses API belongs to the resource, and dated versions do not have it."""
    assert Address.parse(url, api_version=version).responses(azure=azure) == responses


@pytest.mark.parametrize(
    ("url", "version", "azure", "models"),
    [
        ("https://api.openai.com/v1", "", False, "https://api.openai.com/v1/models"),
        ("https://r.openai.azure.com", "", True, "https://r.openai.azure.com/openai/v1/models"),
        (
            "https://responses.openai.azure.com",
            "preview",
            True,
            "https://responses.openai.azure.com/openai/v1/models?api-version=preview",
        ),
    ],
)
def test_models(url, version, azure, models):
    assert Address.parse(url, api_version=version).models(azure=azure) == models
