"""HTTP out: connections, requests, retries and key selection."""
