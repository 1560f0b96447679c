"""Every preset works in each of its dialects with only a key."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from ccproxy.providers.presets import load_presets
from ccproxy.worker.upstream.auxiliary_request import AuxiliaryRequestError
from ccproxy.worker.upstream.model_list import offered_models
from tests.messages import prompt
from tests.provider import Provider
from tests.worker.proxy import KEY, running

PATHS = {"chat": "/chat/completions", "responses": "/responses", "messages": "/messages"}
CASES = [
    pytest.param(name, api, id=f"{name} {api or 'by default'}")
    for name, preset in load_presets().items()
    for api in ("", *(["messages"] if preset.native_url and preset.api != "messages" else []))
    if name != "demo"
]


@pytest.mark.parametrize(("name", "api"), CASES)
async def test_a_preset_answers(name, api, provider: Provider, tmp_path):
    """Each tier works, in the dialect that its model needs."""
    settings = {"PROVIDER": name} | ({"PROVIDER_API": api} if api else {})
    async with running(tmp_path, provider.url, **settings) as proxy:
        config = proxy.worker.config
        tiers = config.models.tiers() or ("claude-sonnet-5-5",)
        for number, model in enumerate(tiers, start=1):
            answer = await proxy.ask(prompt(model=model))
            assert (answer.status, answer.text) == (200, "ok"), answer
            call = await provider.called(number)
            assert call.json["model"] == model
            api_path = PATHS[config.api_of(model)]
            assert call.path.endswith(api_path), (call.path, api_path)
            assert KEY in call.headers.get("authorization", "") + "".join(
                call.headers.get(header, "") for header in ("x-api-key", "api-key")
            )


async def test_the_list_of_models_is_requested_with_the_presets_credential(
    provider: Provider, tmp_path
):
    for name, preset in load_presets().items():
        if name == "demo":
            continue
        async with running(tmp_path, provider.url, PROVIDER=name) as proxy:
            config = proxy.worker.config
            assert await offered_models(config, KEY) == ["scripted-big", "scripted-small"]
            path = urlsplit(config.models_url()).path
            assert path.endswith("/v1/models"), (preset.title, path)
    broken = config.at(provider.url.removesuffix("/v1") + "/x")
    provider.models = [3]  # type: ignore[list-item]
    with pytest.raises(AuxiliaryRequestError, match="not a list of models"):
        await offered_models(broken, KEY)
