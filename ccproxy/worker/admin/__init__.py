"""What a user can inspect and change while a worker runs: history, inspector, bypass."""
