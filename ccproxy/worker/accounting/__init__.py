"""Accounting of requests: usage and costs, budgets, and the accounts of the keys."""
