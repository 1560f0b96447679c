"""One file per command, grouped as in the help. Adding a file adds a command."""
