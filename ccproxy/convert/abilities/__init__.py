"""What ccproxy adds where a model or its API lacks it; `worker/abilities` does the I/O."""
