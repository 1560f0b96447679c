"""One file per endpoint, listed in `ROUTES`."""
