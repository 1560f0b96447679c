"""The selection of a worker's pool: its own, a shared one, or its own as a fallback."""

from __future__ import annotations

import errno
import os

import pytest
import structlog
from structlog.testing import capture_logs

from ccproxy.config.worker_config import load_worker
from ccproxy.keys.backends.backend import LocalBackend
from ccproxy.keys.backends.shared_memory import SharedMemoryBackend
from ccproxy.worker.key_pool import make_pool

LOG = structlog.get_logger()


@pytest.fixture
def config():
    environ = {
        "PROVIDER_BASE_URL": "http://127.0.0.1:9/v1",
        "PROVIDER_API_KEY": "sk-first-key-aaaa,sk-second-key-bbbb",
        "KEY_PER_DAY": "1",
    }
    return load_worker(None, environ=environ)


async def test_a_single_process_shares_nothing(config, tmp_path):
    pool = make_pool(config, state=tmp_path, log=LOG)
    assert isinstance(pool.backend, LocalBackend)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("in_fleet", "named"),
    [
        pytest.param(True, True, id="an entry of a table"),
        pytest.param(False, False, id="a proxy without one: no command knows its label"),
    ],
)
async def test_the_command_that_shows_the_keys_is_named(
    config, tmp_path, processes, in_fleet, named
):
    pool = make_pool(config, state=tmp_path, log=LOG, processes=processes, in_fleet=in_fleet)
    for key in ("k1", "k2"):
        pool.disable(key)
    text = pool.refusal("m").message
    assert (f"see `ccproxy keys {config.label}`" in text) is named
    if isinstance(pool.backend, SharedMemoryBackend):
        pool.backend.close()


async def test_several_processes_share_a_pool_with_the_users_limits(config, tmp_path):
    one = make_pool(config, state=tmp_path, processes=2, log=LOG)
    two = make_pool(config, state=tmp_path, processes=2, log=LOG)
    assert isinstance(one.backend, SharedMemoryBackend)
    assert isinstance(two.backend, SharedMemoryBackend)
    assert [pool.take("m").id for pool in (one, two)] == ["k1", "k2"]
    assert [key.used_today for key in one.snapshot()] == [1, 1]
    one.backend.close()
    two.backend.close()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="nothing is reserved here")
async def test_a_full_disk_prevents_only_the_sharing(config, tmp_path, monkeypatch):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with capture_logs() as lines:
        pool = make_pool(config, state=tmp_path, processes=2, log=LOG)
    assert isinstance(pool.backend, LocalBackend)
    assert [line["event"] for line in lines] == ["pool.not_shared"]
