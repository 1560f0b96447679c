"""Makes a running worker test the connection to its provider."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from ccproxy.cli.session.claude_environment import base_url
from ccproxy.config.worker_config import WorkerConfig

PROVIDER_SECONDS = 120.0
"""A provider may take a long time to answer a test request."""


def try_connection(config: WorkerConfig, *, limit: float = PROVIDER_SECONDS) -> Mapping[str, Any]:
    """
    Make the worker of *config* send a test request to its provider, and return its report.

    Raises:
        OSError: If the worker does not respond within *limit* seconds.
        ValueError: If the worker's response is not JSON.
    """
    headers = {"x-api-key": config.client_keys[0]} if config.client_keys else {}
    url = f"{base_url(config)}/test-connection"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - our own worker
    # Ignore the environment's HTTP proxy: the worker is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=limit) as response:
            body = json.load(response)
    except urllib.error.HTTPError as error:
        body = json.loads(error.read() or b"{}")
    return body if isinstance(body, dict) else {"message": body}
