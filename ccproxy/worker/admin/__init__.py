"""Everything a user can look at and change while a worker runs: history, inspector, bypass."""
