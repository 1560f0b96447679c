"""
Importers convert the configuration of other tools to entries and env files of a fleet.

`source.py` recognizes a file by its content and calls the importer for its tool. Each importer
calls an `ImportBuilder`, which checks every proxy and records the parts that cannot be imported. No
file is written here.
"""
