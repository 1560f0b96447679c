"""Human-readable output: terminal, tables and results."""
