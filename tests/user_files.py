"""Files of a user's, written into a folder of the test's own."""

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
"""A certificate that vouches for nobody: its private key was never kept."""

ENVS = Path(__file__).parents[1] / "envs"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder that the user is in: files in it are called by their short names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(here):
    """Write a file as its owner's alone, folders included."""

    def write(name, text):
        file = here / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(0o600)
        return file

    return write


@pytest.fixture
def complaints():
    """Run something that must fail, and return what is said about it."""

    def complaints(act, *args, **more):
        with pytest.raises(ConfigError) as caught:
            act(*args, **more)
        return [str(mistake) for mistake in caught.value.mistakes]

    return complaints


@pytest.fixture
def templates():
    """The folder of the env files that are shipped."""
    return ENVS
