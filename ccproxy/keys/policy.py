"""The user's policy for the selection of keys; `key_selection` applies it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Strategy = Literal["rotate", "fill-first", "priority", "weights"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
Affinity = Literal["session", "conversation", "off"]
AFFINITIES: tuple[Affinity, ...] = get_args(Affinity)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRank:
    """The attributes that the user has set for a key."""

    priority: int = 1
    """Keys with a lower number are used first."""
    weight: int = 1


NO_RANK = KeyRank()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPolicy:
    """How keys are selected."""

    strategy: Strategy = "rotate"
    ranks: tuple[KeyRank, ...] = ()
    """Ranks in the order of the keys; a missing rank is `NO_RANK`."""
    affinity: Affinity = "session"
    move_wait: float = 600.0
    """Maximum number of seconds that a move to a preferred key waits for a new prefix."""

    def rank(self, position: int) -> KeyRank:
        """Return the rank of the key at *position*; the first is 0."""
        return self.ranks[position] if position < len(self.ranks) else NO_RANK

    def tier(self, position: int) -> int:
        """Return the tier of the key at *position*; keys of the lowest tier are used first."""
        match self.strategy:
            case "fill-first":
                return position
            case "priority":
                return self.rank(position).priority
        return 0

    def weight(self, position: int) -> int:
        """Return the weight of the key at *position*."""
        return self.rank(position).weight if self.strategy in ("priority", "weights") else 1

    @property
    def is_weighted(self) -> bool:
        """True if keys have different shares."""
        return any(self.weight(position) != 1 for position in range(len(self.ranks)))
