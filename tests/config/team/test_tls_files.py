"""TLS_CERT and TLS_KEY: mistakes are reported before a worker starts."""

from __future__ import annotations

import pytest

from ccproxy.config.fleet import Entry
from ccproxy.config.worker_config import load_worker
from ccproxy.errors import ConfigError
from tests.security.test_tls import certificate, needs_openssl

PUBLIC = {"PUBLIC_URL": "https://llm.example.com"}


def load(folder, **settings):
    entry = Entry(port=1, env_file=folder / "x.env", label="Test")
    return load_worker(None, entry=entry, environ={"PROVIDER": "demo", **settings})


@pytest.fixture
def files(tmp_path):
    cert, key = certificate(tmp_path, "localhost")
    return {"TLS_CERT": str(cert), "TLS_KEY": str(key)}


@needs_openssl
def test_both_files_are_needed_and_belong_together(tmp_path, files):
    tls = load(tmp_path, **files, **PUBLIC).gateway.tls
    assert tls is not None
    assert tls.key.name == "localhost.key"
    assert load(tmp_path).gateway.tls is None
    _, other = certificate(tmp_path, "other")
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    for changed, expected in (
        ({"TLS_KEY": ""}, "TLS_CERT needs TLS_KEY"),
        ({"TLS_CERT": ""}, "TLS_KEY needs TLS_CERT"),
        ({"PUBLIC_URL": ""}, "TLS_CERT needs PUBLIC_URL"),
        ({"PUBLIC_URL": "http://localhost:1"}, "TLS_CERT needs PUBLIC_URL"),
        ({"TLS_KEY": str(other)}, "cannot be used"),
        ({"TLS_KEY": "missing.key"}, "cannot be used: No such file"),
        ({"TLS_KEY": str(encrypted)}, "cannot be used"),
    ):
        with pytest.raises(ConfigError, match=expected):
            load(tmp_path, **{**files, **PUBLIC, **changed})


@needs_openssl
@pytest.mark.parametrize("mode", [0o644, 0o620])
def test_a_key_that_others_may_read_or_change_is_refused(tmp_path, files, mode):
    (tmp_path / "localhost.key").chmod(mode)
    with pytest.raises(ConfigError, match="can be read or changed by other users"):
        load(tmp_path, **files, **PUBLIC)
    (tmp_path / "localhost.key").chmod(0o640)
    assert load(tmp_path, **files, **PUBLIC).gateway.tls is not None
