"""Which pool a worker gets: its own, one that is shared, or its own after all."""

from __future__ import annotations

import errno
import os

import pytest
import structlog
from structlog.testing import capture_logs

from ccproxy.config.worker import load_worker
from ccproxy.pipeline.keys import KeyPool
from ccproxy.worker.pooling import make_pool
from ccproxy.worker.sharing import SharedPool

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
    pool = make_pool(config, state=tmp_path, processes=1, log=LOG)
    assert type(pool) is KeyPool
    assert list(tmp_path.iterdir()) == []


async def test_several_processes_share_one_with_the_users_limits(config, tmp_path):
    one = make_pool(config, state=tmp_path, processes=2, log=LOG)
    two = make_pool(config, state=tmp_path, processes=2, log=LOG)
    assert isinstance(one, SharedPool)
    assert isinstance(two, SharedPool)
    assert [pool.take("m").id for pool in (one, two)] == ["k1", "k2"]
    assert [key.used_today for key in one.snapshot()] == [1, 1]
    one.close()
    two.close()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="nothing is reserved here")
async def test_a_full_disk_costs_the_sharing_only(config, tmp_path, monkeypatch):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with capture_logs() as lines:
        pool = make_pool(config, state=tmp_path, processes=2, log=LOG)
    assert type(pool) is KeyPool
    assert [line["event"] for line in lines] == ["pool.not_shared"]
