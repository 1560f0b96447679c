"""THE WIRE: what the two APIs look like. Pure."""
