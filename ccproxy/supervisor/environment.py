"""What of our environment a child may see."""

from __future__ import annotations

import os

_KEPT_VARIABLES = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "LANG", "LANGUAGE", "TMPDIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_RUNTIME_DIR", "PYTHONPATH", "VIRTUAL_ENV"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)


def clean_environment() -> dict[str, str]:
    """Return what of our environment a child may see: nothing that could hold a key."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    locale = {name: value for name, value in os.environ.items() if name.startswith("LC_")}
    return kept | locale
