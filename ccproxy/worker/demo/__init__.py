"""The demo provider: a small model without a network, for trying ccproxy out."""
