"""The models that a server lists at GET /models, and the API that the server supports."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urljoin

from ccproxy.config.addresses import Address

TIMEOUT = 2.0
"""Seconds. The list is only a suggestion at a prompt."""
_MAX_BYTES = 1_000_000

_WINDOW_FIELDS = (
    "max_model_len",  # vLLM, SGLang
    "max_input_tokens",  # LiteLLM
    "n_ctx",  # llama.cpp, in `meta`
    "loaded_context_length",  # LM Studio
    "context_length",  # OpenRouter and others
    "context_window",
    "max_context_length",
    "n_ctx_train",  # llama.cpp: the model's window; the server's is at /props
)
_INNER_OBJECTS = ("meta", "model_info")


@dataclass(frozen=True, slots=True)
class ServerModel:
    """A model that a server lists."""

    name: str
    window: int | None
    """In tokens; None if the server does not report it."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Does not follow redirects, so that the key is not sent to another host."""

    def redirect_request(self, *_: object) -> None:
        return None


def list_models(base_url: str, keys: Sequence[str]) -> list[ServerModel]:
    """Return the models at *base_url*, or an empty list if the server does not list them."""
    try:
        rows = _get(Address.parse(base_url).models(), keys)["data"]
        return [ServerModel(str(row["id"]), _window(row)) for row in rows]
    except (ValueError, LookupError, TypeError):
        return []


def server_window(base_url: str, keys: Sequence[str], model: str) -> int | None:
    """Return the context window of *model* at *base_url*, or None if it is unknown."""
    models = [one for one in list_models(base_url, keys) if one.name == model]
    if not models or models[0].window is None:
        return None
    try:
        # llama.cpp may have been started with a smaller window than the model's.
        props = _get(urljoin(base_url, "/props"), keys)
        own = props["default_generation_settings"]["n_ctx"]
    except (ValueError, LookupError, TypeError):
        return models[0].window
    return min(models[0].window, own) if _is_window(own) else models[0].window


def find_api(base_url: str, keys: Sequence[str]) -> str:
    """
    Return the API of a server without Chat Completions; empty if none is found.

    An endpoint exists if it rejects the empty request for a reason other than its path.
    """
    address = Address.parse(base_url)
    endpoints = {"responses": address.responses(azure=False), "messages": address.messages()}
    for api, url in endpoints.items():
        try:
            with _opened(url, keys, body=b"{}"):
                return api
        except urllib.error.HTTPError as error:
            if error.code not in (404, 405):
                return api
        except (OSError, http.client.HTTPException):
            return ""
    return ""


def _get(url: str, keys: Sequence[str]) -> Any:  # noqa: ANN401 - any JSON
    """Return the JSON document at *url*. Raise ValueError if that fails."""
    try:
        with _opened(url, keys) as response:
            return json.loads(response.read(_MAX_BYTES))
    except (OSError, http.client.HTTPException, RecursionError) as error:
        raise ValueError(str(error)) from error


def _opened(url: str, keys: Sequence[str], *, body: bytes | None = None) -> HTTPResponse:
    headers = {"authorization": f"Bearer {keys[0]}"} if keys else {}
    if body is not None:
        headers["content-type"] = "application/json"
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - parsed as http(s)
    response: HTTPResponse = urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT)
    return response


def _window(row: Mapping[str, Any]) -> int | None:
    inner: Iterable[object] = (row.get(name) for name in _INNER_OBJECTS)
    objects = [row, *(one for one in inner if isinstance(one, Mapping))]
    values = (one.get(name) for name in _WINDOW_FIELDS for one in objects)
    return next(filter(_is_window, values), None)


def _is_window(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
