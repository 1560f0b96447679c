"""
The proxy and certificate variables with which workers are started.

They come from the shell of the last command that started workers, not from the one that happened
to start the supervisor months ago. A supervisor in the foreground keeps its own, because its
service manager or container defines them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ccproxy.supervisor.processes.child_environment import (
    clean_environment,
    differing_names,
    network_variables,
)


class NetworkEnvironment:
    """Holds the variables, and reports by name how those of a command differ."""

    def __init__(self, *, is_foreground: bool = False) -> None:
        self._is_foreground = is_foreground
        self._variables = network_variables(os.environ)

    def environment(self) -> dict[str, str]:
        """Return the environment for a child process."""
        return clean_environment(self._variables)

    def preview(self, variables: Mapping[str, str] | None) -> dict[str, str]:
        """Return the variables that `take` would result in, without using them."""
        if variables is None or self._is_foreground:
            return self._variables
        return network_variables(variables)

    def take(self, variables: Mapping[str, str], *, running: Sequence[str] = ()) -> tuple[str, ...]:
        """
        Use *variables* from now on; return notes for the user.

        *running* lists the entries that the command leaves as they are.
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
