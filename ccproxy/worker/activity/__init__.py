"""Running and finished requests: ring buffer, rates, events for watchers, cache losses."""
