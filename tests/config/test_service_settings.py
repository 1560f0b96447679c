"""The settings for services next to a proxy."""

from __future__ import annotations

import pytest

from ccproxy.config import reader
from ccproxy.config.worker_config import load_worker
from ccproxy.errors import ConfigError
from tests.user_files import AUTHORITY

PLAIN = {"PROVIDER_BASE_URL": "http://127.0.0.1:9/v1", "PROVIDER_API_KEY": "sk-a-key-of-length"}
SIGNING_KEY = "0123456789abcdef0123456789abcdef"


def load(**environ):
    return load_worker(None, environ={**PLAIN, **environ})


def test_nothing_is_shared_by_default():
    services = load().services
    assert (services.redis, services.redis_timeout, services.signing_key) == (None, 0.25, b"")


def test_every_setting_is_read():
    services = load(
        REDIS_URL="redis://h", REDIS_TIMEOUT="0.1", REDIS_REPLICAS="3", SIGNING_KEY=SIGNING_KEY
    ).services
    assert services.redis is not None
    assert (services.redis.host, services.redis_timeout, services.redis_replicas) == ("h", 0.1, 3)
    assert services.signing_key == SIGNING_KEY.encode()
    assert SIGNING_KEY not in repr(services)


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        pytest.param({"SIGNING_KEY": "short"}, "must have at least 32 characters", id="short"),
        pytest.param({"REDIS_URL": "redis://:pass-word@"}, "must name a host", id="no host"),
        pytest.param({"REDIS_REPLICAS": "0"}, "replicas", id="no replica"),
        pytest.param(
            {"REDIS_URL": "rediss://:pass-word@h?ca=no.pem"},
            'REDIS_URL must be a file of certificates, got "no.pem"',
            id="no CA bundle",
        ),
    ],
)
def test_a_mistake_is_explained_without_the_secret(environ, problem):
    with pytest.raises(ConfigError, match=problem) as raised:
        load(**environ)
    assert "pass-word" not in str(raised.value)
    assert '"short"' not in str(raised.value)


def test_files_may_be_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ca.pem").write_text(AUTHORITY)
    services = load(REDIS_URL="rediss://h?ca=~/ca.pem", METRICS="unix:~/m.sock").services
    assert services.redis is not None
    assert services.metrics is not None
    assert services.redis.ca_bundle == str(tmp_path / "ca.pem")
    assert services.metrics.path == str(tmp_path / "m.sock")


def test_a_missing_library_is_named_before_anything_starts(monkeypatch):
    monkeypatch.setattr(reader, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install 'ccproxy-fleet\[redis\]'"):
        load(REDIS_URL="redis://h")
