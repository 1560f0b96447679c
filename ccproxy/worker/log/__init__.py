"""The log of a worker: its lines, the console copy, and the file of stdout and stderr."""
