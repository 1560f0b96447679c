"""One signing key per fleet, created by the first worker."""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from ccproxy.worker.signing_key import KEY_BYTES, load_signing_key


def test_the_key_is_created_once_and_is_private(tmp_path):
    state = tmp_path / "state"
    key = load_signing_key(state)
    assert len(key) == KEY_BYTES
    assert load_signing_key(state) == key
    assert stat.S_IMODE((state / "signing.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert [path.name for path in state.iterdir()] == ["signing.key"]


def test_two_fleets_have_two_keys(tmp_path):
    assert load_signing_key(tmp_path / "a") != load_signing_key(tmp_path / "b")


def test_workers_that_start_together_use_the_same_key(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: load_signing_key(tmp_path), range(40)))
    assert len(set(keys)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["signing.key"]


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_an_invalid_key_is_replaced(tmp_path, content):
    (tmp_path / "signing.key").write_bytes(content)
    key = load_signing_key(tmp_path)
    assert len(key) == KEY_BYTES
    assert load_signing_key(tmp_path) == key


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        pytest.param(errno.ENOSPC, "free some space on that disk", id="full disk"),
        pytest.param(errno.EDQUOT, "free some space on that disk", id="quota"),
        pytest.param(errno.EROFS, "make its folder writable by the user who runs", id="read-only"),
    ],
)
def test_an_error_names_the_file_and_the_fix(tmp_path, monkeypatch, number, fix):
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError, match=f"{os.strerror(number)}; {fix}") as caught:
        load_signing_key(tmp_path)
    assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / "signing.key"))
    assert not [*tmp_path.iterdir()]


def test_an_error_about_the_folder_names_the_file(tmp_path):
    (tmp_path / "state").write_text("")
    with pytest.raises(OSError, match="Not a directory; a file with the folder's name") as caught:
        load_signing_key(tmp_path / "state")
    assert caught.value.filename == str(tmp_path / "state" / "signing.key")
