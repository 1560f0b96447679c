"""The key pool: selection, cooldown, limits, breaker, retry policy and display."""
