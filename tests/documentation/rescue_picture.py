"""
Draw a session that survives the failure of its provider, with the real Claude Code.

`make test-claude` installs it.

    python -m tests.documentation.rescue_picture docs/pictures/rescue.svg
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from pyte.screens import Char

from tests.claude.conftest import INSTALLED
from tests.claude.driver import Claude
from tests.claude.screen import ENTER, Screen, skip_first_questions
from tests.documentation.terminal_picture import picture, plain_row
from tests.fleet import ROOT, FleetHome
from tests.provider import Provider, completion

COLUMNS = 126
FIRST = "What does load_table do if the file is missing?"
SECOND = "Add a test for it."
ANSWERS = {
    "Kimi-K3": "It raises ConfigError with the path and a fix, and reads nothing else.",
    "GLM-5": "Done: test_a_missing_table_is_reported checks the path and the fix. It passes.",
}
TITLE = "a session on a provider that stops working"
EVENT = "(the provider of Kimi-K3 stops working here)"
DESCRIPTION = (
    "A Claude Code session on Kimi-K3. The provider stops working, the next answer comes from "
    "GLM-5, and the status line names it and the reason."
)


async def draw(path: Path) -> None:
    """Run the session and write its picture to *path*."""
    binary = Path(os.environ.get("CCPROXY_CLAUDE") or _installed())
    with tempfile.TemporaryDirectory(prefix="picture") as folder:
        home = FleetHome(Path(folder) / "fleet")
        home.path.mkdir()
        async with Provider() as kimi, Provider() as glm, home:
            providers = {"Kimi-K3": (kimi, "kimi"), "GLM-5": (glm, "zai")}
            home.write(**{label: _settings(*one) for label, one in providers.items()})
            table = home.path / "ccproxy.toml"
            table.write_text(table.read_text() + '[fallback]\nKimi-K3 = ["GLM-5"]\n')
            for label, (provider, _) in providers.items():
                provider.script(completion(ANSWERS[label]))
            assert (await home.ccproxy("start")).code == 0
            claude = Claude(binary, Path(folder) / "user", {})
            claude.folder.mkdir()
            loop = asyncio.get_running_loop()
            rows = await asyncio.to_thread(_session, home, claude, kimi, loop)
            requests = await home.ccproxy("requests")
        path.parent.mkdir(exist_ok=True)
        path.write_text(_drawn(rows, requests.out), encoding="utf-8")


def _installed() -> Path:
    return next(iter(sorted((ROOT / ".claude-code").glob(INSTALLED))))


def _settings(provider: Provider, preset: str) -> dict[str, str]:
    return {
        "PROVIDER": preset,
        "PROVIDER_BASE_URL": provider.url,
        "PROVIDER_API_KEY": "sk-0123456789abcdef",
        "MAX_RETRIES": "1",
        "ACCOUNT_CHECK": "off",
    }


def _session(
    home: FleetHome, claude: Claude, kimi: Provider, loop: asyncio.AbstractEventLoop
) -> list[list[Char]]:
    """Ask twice; the provider is stopped in between."""
    environ = claude.environment(PYTHONPATH=":".join(sys.path))
    skip_first_questions(claude.folder, claude.cwd)
    command = [sys.executable, "-m", "ccproxy", "--config", str(home.path / "ccproxy.toml")]
    screen = Screen([*command, "run", "kimi-k3", "--", str(claude.binary)], claude.cwd, environ)
    try:
        screen.wait_for("Kimi-K3")
        screen.press(*FIRST, ENTER)
        screen.wait_for(ANSWERS["Kimi-K3"][:40])
        asyncio.run_coroutine_threadsafe(kimi.__aexit__(None, None, None), loop).result()
        screen.press(*SECOND, ENTER)
        screen.wait_for(ANSWERS["GLM-5"][:40], "Kimi-K3 → GLM-5", "fallback")
        screen.press("")
        return screen.rows
    finally:
        screen.close()


def _drawn(rows: list[list[Char]], requests: str) -> str:
    """Return the session from the first question on, then the fleet's list of requests."""
    texts = ["".join(cell.data for cell in row) for row in rows]
    first = next(index for index, text in enumerate(texts) if FIRST[:9] in text)
    picture_rows = [plain_row("$ ccproxy run kimi-k3 -- claude", bold=True), []]
    for row, text, before in zip(rows[first:], texts[first:], texts[first - 1 :], strict=False):
        if SECOND in text:
            picture_rows += [
                plain_row(f"  {EVENT}", color="brown"),
                [],
            ]
        # Claude Code leaves the middle of the screen empty; its last line needs a special font.
        if (text.strip() or before.strip()) and "shift+tab" not in text:
            picture_rows.append(row[:COLUMNS])
    picture_rows += [[], plain_row("$ ccproxy requests", bold=True)]
    picture_rows += [plain_row(line[:COLUMNS]) for line in requests.splitlines()]
    return picture(picture_rows, title=TITLE, description=DESCRIPTION)


if __name__ == "__main__":
    asyncio.run(draw(Path(sys.argv[1])))
