"""The catalogue of models in use: the one of this release, or a newer one of the user."""
