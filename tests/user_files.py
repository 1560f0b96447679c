"""Fixtures that write the user's files into a temporary folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccproxy.errors import ConfigError

AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBnzCCAUWgAwIBAgIUIlzlrHwv6SSevihJ1XTNMcCuc1AwCgYIKoZIzj0EAwIw
JDEiMCAGA1UEAwwZQW4gYXV0aG9yaXR5IG9mIHRoZSB0ZXN0czAgFw0yNjExMjEx
NjI2MDBaGA8yMTI2MTAyODE2MjYwMFowJDEiMCAGA1UEAwwZQW4gYXV0aG9yaXR5
IG9mIHRoZSB0ZXN0czBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABEb2BFSdJB3x
VyoFiD71v0mueppqw1tWf6qQWoW8OQZNW/CwsL7+U+iZo/D5PTe3666bmv/AYaSJ
w3vJACVGiBajUzBRMB0GA1UdDgQWBBQaSHGjKyM26Paw4tapKM22ye5xYDAfBgNV
HSMEGDAWgBQaSHGjKyM26Paw4tapKM22ye5xYDAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0gAMEUCIQC+0rW4GzlHNEQ0xHUxHB12UYmrYawS1XOONS3fspDj
rAIgQyP4fnGoC/fOyCD5wgQIhfE8OKq6wjAryM46+O3NPPs=
-----END CERTIFICATE-----
"""
"""A certificate authority whose private key was deleted."""

ENVS = Path(__file__).parents[1] / "envs"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The user's current folder, whose files are displayed with relative paths."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(here):
    """Write a private file and its parent folders."""

    def write(name, text):
        file = here / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(0o600)
        return file

    return write


@pytest.fixture
def complaints():
    """Run a function that must raise ConfigError, and return the texts of its errors."""

    def complaints(act, *args, **more):
        with pytest.raises(ConfigError) as caught:
            act(*args, **more)
        return [str(mistake) for mistake in caught.value.mistakes]

    return complaints


@pytest.fixture
def templates():
    """The folder of the shipped env templates."""
    return ENVS
