"""Asks a server which models it has: GET /models, as OpenAI's API has it."""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections.abc import Sequence

from ccproxy.config.addresses import Address

LIMIT = 2.0
"""Seconds. Somebody waits, and can do without."""
_LARGEST = 1_000_000


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: the key is meant for nobody else."""

    def redirect_request(self, *_: object) -> None:
        return None


def offered_models(base_url: str, keys: Sequence[str]) -> list[str]:
    """Return the names of the models at *base_url*; none if it does not say."""
    headers = {"authorization": f"Bearer {keys[0]}"} if keys else {}
    url = Address.parse(base_url).models()
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - it was read as http(s)
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=LIMIT) as answer:
            said = json.loads(answer.read(_LARGEST))
        return [str(model["id"]) for model in said["data"]]
    except (OSError, http.client.HTTPException, ValueError, RecursionError, LookupError, TypeError):
        return []
