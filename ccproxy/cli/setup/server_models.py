"""List the models of a server: GET /models, as in OpenAI's API."""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Sequence

from ccproxy.config.addresses import Address

TIMEOUT = 2.0
"""Seconds. The list is only a suggestion at a prompt."""
_MAX_BYTES = 1_000_000


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Does not follow redirects, so that the key is not sent to another host."""

    def redirect_request(self, *_: object) -> None:
        return None


def list_models(base_url: str, keys: Sequence[str]) -> list[str]:
    """Return the names of the models at *base_url*; empty if the server does not list them."""
    headers = {"authorization": f"Bearer {keys[0]}"} if keys else {}
    url = Address.parse(base_url).models()
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - parsed as http(s)
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT) as response:
            document = json.loads(response.read(_MAX_BYTES))
        return [str(model["id"]) for model in document["data"]]
    except (OSError, http.client.HTTPException, ValueError, RecursionError, LookupError, TypeError):
        return []
