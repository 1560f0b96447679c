"""Features that ccproxy adds to models and APIs; `worker/added_features` does the I/O."""
