"""
The command line: one file per verb, named in `VERBS` of verbs.py.

A verb reads its options, calls one function and prints. It is imported when it is called for, and
imports what is slow to load (the conversion, the supervisor's psutil) inside its function, so that
`--help` and completion answer at once. aiohttp and structlog are the worker's and never loaded
here. Data goes to stdout, talk to stderr.
"""
