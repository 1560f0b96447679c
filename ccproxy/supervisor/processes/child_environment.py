"""What of our environment a child may see."""

from __future__ import annotations

import os

_KEPT_VARIABLES = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "LANG", "LANGUAGE", "TMPDIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_RUNTIME_DIR", "PYTHONPATH", "VIRTUAL_ENV"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(32 * 1024 * 1024),
}
"""
glibc asks the system for every large block, gives it back at once, and the system clears it for the
next request: a fifth of what a request of some 100 KB costs. Up to so many bytes, it keeps them.
"""


def clean_environment() -> dict[str, str]:
    """Return what a child's environment is: nothing of ours that could hold a key."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    locale = {name: value for name, value in os.environ.items() if name.startswith("LC_")}
    return kept | locale | ALLOCATOR
