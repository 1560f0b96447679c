"""Plan and converge: the decision part of the supervisor."""
