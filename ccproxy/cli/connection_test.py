"""Asks a running proxy to ask its provider for a word: GET /test-connection."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from ccproxy.cli.session.claude_environment import base_url
from ccproxy.config.worker import WorkerConfig

LIMIT = 120.0
"""Seconds; a provider may be slow."""


def try_connection(config: WorkerConfig, *, limit: float = LIMIT) -> Mapping[str, Any]:
    """
    Return what the proxy of *config* says about its provider.

    Raises:
        OSError: If it does not answer within *limit* seconds.
        ValueError: If its answer is not JSON.

    """
    key = {"x-api-key": config.client_keys[0]} if config.client_keys else {}
    url = f"{base_url(config.host, config.port)}/test-connection"
    request = urllib.request.Request(url, headers=key)  # noqa: S310 - our own worker
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is this machine
    try:
        with opener.open(request, timeout=limit) as answer:
            said = json.load(answer)
    except urllib.error.HTTPError as error:
        said = json.loads(error.read() or b"{}")
    return said if isinstance(said, dict) else {"message": said}
