"""Provider errors: classification, wordings, retry-after and overflow."""
