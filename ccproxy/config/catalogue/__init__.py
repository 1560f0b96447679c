"""The model catalogue in use: this release's, or a newer one that the user has installed."""
