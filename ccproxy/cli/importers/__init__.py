"""
Importers: the configuration of other tools as entries and env files of a fleet.

`source.py` recognizes a file by its content and calls the importer of its tool. Each importer
calls an `ImportBuilder`, which checks every proxy and collects what could not be taken over.
Nothing is written here.
"""
