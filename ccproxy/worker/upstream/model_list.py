"""Fetches a provider's list of models with GET /models, as in OpenAI's and Anthropic's APIs."""

from __future__ import annotations

import msgspec

from ccproxy.config.worker_config import WorkerConfig
from ccproxy.protocol.headers import UpstreamHeaders
from ccproxy.worker.upstream.auxiliary_request import AuxiliaryRequestError, auxiliary_request

MAX_BYTES = 8 << 20
"""Maximum size of a list; enough for aggregators, which list hundreds of models."""


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


async def offered_models(config: WorkerConfig, key: str) -> list[str]:
    """
    Return the names of the models that the provider lists for *key*.

    Raises:
        AuxiliaryRequestError: If the provider returns no list.
    """
    headers = UpstreamHeaders(config.auth, custom=config.custom_headers)
    is_direct = config.api == "messages"
    request_headers = headers.direct(key, ()) if is_direct else headers.chat(key, stream=False)
    body = await auxiliary_request(config, config.models_url(), request_headers, most=MAX_BYTES)
    try:
        models = msgspec.json.decode(body, type=_Models).data
    except msgspec.DecodeError as error:
        raise AuxiliaryRequestError(f"the answer is not a list of models: {error}") from error
    # Gemini: models/gemini-…
    return sorted({model.id.removeprefix("models/") for model in models})
