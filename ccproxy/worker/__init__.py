"""THE PROXY PROCESS: aiohttp on both sides of an exchange."""
