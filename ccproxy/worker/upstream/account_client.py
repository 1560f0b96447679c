"""
Fetches reports about a key's account from the provider.

The key is sent only to the host of its base URL, in a header, and redirects are not followed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlsplit

from ccproxy.config.worker_config import WorkerConfig
from ccproxy.keys.account_report import (
    MAX_BYTES,
    AccountEndpoint,
    AccountReport,
    AccountUnknown,
    account_endpoint,
    parse_account,
)
from ccproxy.worker.upstream.auxiliary_request import AuxiliaryRequestError, auxiliary_request

_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "Accept-Language": "en"}


class AccountClient:
    """Fetches account reports for the keys of one worker."""

    def __init__(self, config: WorkerConfig, *, wall: Callable[[], float] = time.time) -> None:
        self._config = config
        self._wall = wall

    def endpoint(self, key: str) -> AccountEndpoint | None:
        """Return the account endpoint for *key*, or None if there is none or the checks are off."""
        config = self._config
        if config.accounts.check == "off":
            return None
        host = urlsplit(config.base_url).hostname or ""
        endpoint = account_endpoint(host, key)
        if endpoint is None and config.accounts.host:
            endpoint = account_endpoint(config.accounts.host, key)
        if endpoint is None or (config.accounts.check == "auto" and not endpoint.is_documented):
            return None
        return endpoint

    async def ask(self, endpoint: AccountEndpoint, key: str) -> AccountReport:
        """
        Return the account report for *key*.

        Raises:
            AccountUnknown: If no report is available.
        """
        split = urlsplit(self._config.base_url)
        url = f"{split.scheme}://{split.netloc}{endpoint.path}"
        headers = {**_HEADERS, "Authorization": f"{endpoint.scheme}{key}"}
        try:
            body = await auxiliary_request(self._config, url, headers, most=MAX_BYTES)
        except AuxiliaryRequestError as error:
            raise AccountUnknown(str(error)) from error
        return parse_account(endpoint, body, now=self._wall())
