"""Output for people: terminal, tables and results."""
