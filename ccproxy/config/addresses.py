"""
The URLs of a provider's endpoints.

A base URL is accepted in every form that users paste: with or without /v1, as a complete
endpoint, and for Azure OpenAI as a resource, as a deployment or in the newer /openai/v1 form.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

_CHAT = "/chat/completions"
_RESPONSES = "/responses"
_MESSAGES = "/messages"
_DEPLOYMENTS = "/openai/deployments"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A base URL without an endpoint or a query; *api_version* is Azure's."""

    base: str
    api_version: str = ""

    @classmethod
    def parse(cls, url: str, *, api_version: str = "") -> Address:
        """Parse a base URL; an `api-version` in its query has the effect of AZURE_API_VERSION."""
        split = urlsplit(url)
        version = api_version or dict(parse_qsl(split.query)).get("api-version", "")
        path = split.path.rstrip("/")
        for endpoint in (_CHAT, _RESPONSES, _MESSAGES):
            path = path.removesuffix(endpoint)
        path = path.rstrip("/")
        return cls(base=urlunsplit((split.scheme, split.netloc, path, "", "")), api_version=version)

    def chat(self, model: str, *, azure: bool) -> str:
        """Return the URL of Chat Completions for *model*."""
        if not azure:
            return self.base + _CHAT
        return self.base + self._azure_part(model) + _CHAT + self._query()

    def responses(self, *, azure: bool) -> str:
        """
        Return the URL of the Responses API.

        On Azure, this API belongs to the resource, not to a deployment, and is available only in
        the versions "preview" and "v1".
        """
        path = urlsplit(self.base).path
        if not azure or (path and not path.startswith("/openai")):
            return self.base + _RESPONSES
        resource = self.base.removesuffix(path)
        has_version = self.api_version and not self.api_version[:1].isdigit()
        return f"{resource}/openai/v1{_RESPONSES}{self._query() if has_version else ''}"

    def messages(self) -> str:
        """Return the URL of the Messages API."""
        return f"{self.base.removesuffix('/v1')}/v1{_MESSAGES}"

    def models(self, *, azure: bool = False) -> str:
        """Return the URL of the list of models of an OpenAI-compatible server."""
        if not azure:
            return f"{self.base}/models"
        endpoint, mark, query = self.responses(azure=True).partition("?")
        return f"{endpoint.removesuffix(_RESPONSES)}/models{mark}{query}"

    def messages_models(self) -> str:
        """Return the URL of the list of models of a Messages API; 1000 is its maximum page size."""
        return f"{self.base.removesuffix('/v1')}/v1/models?limit=1000"

    def _azure_part(self, model: str) -> str:
        """
        Return the part of the path that an Azure address lacks.

        With an API version, that is the path of the deployment.
        """
        path = urlsplit(self.base).path
        if _DEPLOYMENTS + "/" in path or path.endswith("/openai/v1"):
            return ""
        present = "/openai" if path.endswith("/openai") else ""
        if self.api_version:
            return f"{_DEPLOYMENTS}/{quote(model, safe='')}".removeprefix(present)
        return "/openai/v1".removeprefix(present) if path in ("", "/openai") else ""

    def _query(self) -> str:
        return f"?{urlencode({'api-version': self.api_version})}" if self.api_version else ""
