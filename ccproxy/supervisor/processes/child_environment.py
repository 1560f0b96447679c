"""The environment of child processes: a fixed list of variables, none of which contains a key."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

NETWORK_VARIABLES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
"""Variables that decide how a worker reaches its provider; commands pass their own to workers."""

_INHERITED = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ", "LANG", "LANGUAGE", "TMPDIR"),
    *("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "PYTHONPATH", "VIRTUAL_ENV"),
)

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(32 * 1024 * 1024),
}
"""
By default glibc maps and unmaps memory for every large block, and the kernel clears it each time:
a fifth of the cost of a request of about 100 KB. Below these sizes glibc keeps the memory.
"""


def network_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the proxy and certificate variables in *environ*."""
    return {name: environ[name] for name in NETWORK_VARIABLES if environ.get(name)}


def clean_environment(network: Mapping[str, str] | None = None) -> dict[str, str]:
    """
    Return the environment for a child.

    *network* replaces this process's own `NETWORK_VARIABLES`.
    """
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    locale = {name: value for name, value in os.environ.items() if name.startswith("LC_")}
    chosen = network_variables(os.environ if network is None else network)
    return inherited | locale | chosen | ALLOCATOR


def differing_names(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """Return the names of the network variables that differ; values may contain passwords."""
    return [name for name in NETWORK_VARIABLES if first.get(name) != second.get(name)]


class NetworkEnvironment:
    """
    The proxy and certificate variables with which workers are started.

    They come from the shell of the last command that started workers, not from the shell that
    happened to start the supervisor months ago. A supervisor in the foreground keeps its own,
    because its service manager or container defines them.
    """

    def __init__(self, *, is_foreground: bool = False) -> None:
        self._is_foreground = is_foreground
        self._variables = network_variables(os.environ)

    def environment(self) -> dict[str, str]:
        """Return the environment for a child process."""
        return clean_environment(self._variables)

    def preview(self, variables: Mapping[str, str] | None) -> dict[str, str]:
        """Return the variables that would result from `take`, without using them."""
        if variables is None or self._is_foreground:
            return self._variables
        return network_variables(variables)

    def take(self, variables: Mapping[str, str], *, running: Sequence[str] = ()) -> tuple[str, ...]:
        """
        Use *variables* from now on; return notes for the user.

        *running* lists the entries that the command leaves unchanged.
        """
        new = network_variables(variables)
        names = ", ".join(differing_names(self._variables, new))
        if not names:
            return ()
        if self._is_foreground:
            return (
                f"{names}: this shell's values differ from those of `ccproxy up`, which are used\n"
                "  fix: set them where `ccproxy up` is started (unit file, container), and restart "
                "it",
            )
        self._variables = new
        if not running:
            return ()
        labels = ", ".join(running)
        return (
            f"{names}: this shell's values differ from those that {labels} runs with\n"
            f"  fix: ccproxy restart {' '.join(running)}",
        )
