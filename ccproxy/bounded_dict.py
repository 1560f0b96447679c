"""A dictionary of limited size, for keys that clients choose, such as names of models."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

MAX_MODELS = 256
"""Maximum number of models about which a process keeps facts; clients can invent any number."""


class BoundedDict(OrderedDict[K, V]):
    """A dictionary of at most *most* entries; beyond that, those set longest ago are removed."""

    def __init__(self, most: int = MAX_MODELS) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: K, value: V) -> None:
        """Set *key*, which becomes the newest entry."""
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > self._most:
            self.popitem(last=False)
