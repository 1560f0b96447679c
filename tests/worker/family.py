"""Several workers of one fleet in the test's event loop, each with its own provider."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from pathlib import Path

from tests.provider import Provider
from tests.worker.proxy import KEY, Proxy, running


class Family:
    """
    Workers by label, and the fleet's table, which contains their ports.

    `async with Family(tmp_path) as family`, then `await family.start(Kimi={}, GLM={})`.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.proxies: dict[str, Proxy] = {}
        self.providers: dict[str, Provider] = {}
        self._stack = AsyncExitStack()
        self._written = 0

    async def start(self, text: str = "", /, **entries: dict[str, str]) -> None:
        """Start a worker for each of *entries* and write the table, with *text* appended."""
        for label, settings in entries.items():
            provider = await self._stack.enter_async_context(Provider())
            models = {f"{tier}_MODEL": f"{label}-{tier}".lower() for tier in _TIERS}
            values = {"PROVIDER_BASE_URL": provider.url, **models, **settings}
            url = values.pop("PROVIDER_BASE_URL")
            way = running(self.home, url, label=label, **values)
            self.proxies[label] = await self._stack.enter_async_context(way)
            self.providers[label] = provider
            file = self.home / f"{label}.env"
            lines = {"PROVIDER_API_KEY": KEY, "PROVIDER_BASE_URL": url, **values}
            file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
            file.chmod(0o600)
        self.write(text)

    def write(self, text: str) -> None:
        """Write the table, which the workers read at their next request."""
        rows = [f'"{proxy.port}:{label}.env:{label}"' for label, proxy in self.proxies.items()]
        self._save(f"proxies = [{', '.join(rows)}]\n{text}\n")

    def move(self, label: str, port: int) -> None:
        """Change the port of *label* in the table."""
        table = (self.home / "ccproxy.toml").read_text()
        self._save(table.replace(f'"{self.proxies[label].port}:', f'"{port}:'))

    def rename_file(self, label: str, name: str) -> None:
        """Rename the env file of *label*, and use the new name in the table."""
        (self.home / f"{label}.env").rename(self.home / name)
        self._save((self.home / "ccproxy.toml").read_text().replace(f"{label}.env", name))

    def _save(self, table: str) -> None:
        file = self.home / "ccproxy.toml"
        file.write_text(table)
        # Two writes within one tick of the file system's clock must be distinguishable.
        self._written += 1
        os.utime(file, ns=(self._written, self._written))

    def requested(self) -> dict[str, list[str]]:
        """Return the models that each provider received, by label."""
        return {
            label: [call.json["model"] for call in provider.calls]
            for label, provider in self.providers.items()
            if provider.calls
        }

    async def __aenter__(self) -> Family:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()


_TIERS = ("BIG", "MIDDLE", "SMALL")
