"""What requests use: usage and costs, budgets, and the accounts of the keys."""
