"""ONE REQUEST, and what requests share. No I/O."""
