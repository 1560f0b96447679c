"""The proxy process: aiohttp on both sides of an exchange."""
