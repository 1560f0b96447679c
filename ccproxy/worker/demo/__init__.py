"""The demo provider: a small model for trying out ccproxy without a network."""
