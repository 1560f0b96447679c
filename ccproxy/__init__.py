r"""
ccproxy: Claude Code on any model provider, one supervised proxy process per provider.

The house, and who may lean on whom:

    errors
       protocol <- convert <- pipeline     pure: no I/O, clock, randomness, environment, logging
                                 |
                              config       the user's files -> frozen values
                             /      \
                       worker        supervisor <- cli
                             \                    /
                              store <------------      statistics and history, in SQLite
                                     services <---     texts for systemd and launchd

Beside them stand `logs` (files, rotation, retention), `readable` (log lines for people), `regular`
(files that are no pipes) and `build` (which code is running).

`worker` and `supervisor` never import each other: a command line, an inherited listening socket,
a readiness pipe, the worker's control socket and the fork server's are the whole interface between
them.
"""

__version__ = "0.1.0"
