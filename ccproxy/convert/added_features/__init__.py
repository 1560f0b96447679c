"""What ccproxy adds where a model or its API lacks it; `worker/added_features` does the I/O."""
