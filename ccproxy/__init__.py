r"""
ccproxy: Claude Code on any model provider, one supervised proxy process per provider.

`a <- b` means that b imports a:

            errors   files   text   bounded_dict
   protocol <- providers <- convert <- keys, routing    pure: no I/O, clock, randomness, environment
                                          |
                                        config          reads the user's files
                                       /      \
                                 worker        supervisor <- cli
                                       \      /
                                     ipc, store         control messages; state on disk

`worker` and `supervisor` never import each other. They communicate through a command line, an
inherited listening socket, a readiness pipe and control sockets. `docs/architecture.md` describes
the packages.
"""

__version__ = "0.2.0"
