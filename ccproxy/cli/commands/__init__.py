"""One file per command, grouped as in the help."""
