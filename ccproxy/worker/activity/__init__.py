"""Requests as they run and after they ended: ring, rates, events for watchers, cache losses."""
