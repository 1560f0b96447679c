"""The next step that commands suggest."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccproxy.cli.render.next_step import next_step
from ccproxy.config.worker_config import WorkerConfig, load_worker


@pytest.fixture
def workers(tmp_path: Path) -> dict[str, WorkerConfig]:
    """Two real providers, with the demo provider before and after them."""
    settings = {
        "Demo": "PROVIDER=demo\n",
        "Kimi": "PROVIDER=kimi\nPROVIDER_API_KEY=sk-kimi-secret-1111\n",
        "GLM": "PROVIDER=zai\nPROVIDER_API_KEY=sk-glm-secret-2222\n",
        "Demo2": "PROVIDER=demo\n",
    }
    configs = {}
    for label, text in settings.items():
        file = tmp_path / f"{label}.env"
        file.write_text(text)
        file.chmod(0o600)
        configs[label] = load_worker(file)
    return configs


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param(["Demo", "Kimi", "GLM", "Demo2"], "GLM", id="the newest real provider"),
        pytest.param(["Demo", "Kimi"], "Kimi", id="a real provider before the demo"),
        pytest.param(["Demo"], "Demo", id="the demo alone"),
    ],
)
def test_the_newest_real_provider_is_suggested(
    labels: list[str], expected: str, workers: dict[str, WorkerConfig]
) -> None:
    assert next_step(labels, workers) == f"Next:  ccproxy run {expected} -- claude"


def test_nothing_is_suggested_if_nothing_is_running(workers: dict[str, WorkerConfig]) -> None:
    assert next_step([], workers) == ""
