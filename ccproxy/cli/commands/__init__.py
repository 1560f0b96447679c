"""One file per command, grouped as in the help. A new file is a new command; nothing lists them."""
