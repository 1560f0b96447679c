"""THE FLEET: look, decide, act."""
