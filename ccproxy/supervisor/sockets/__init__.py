"""Sockets: the TCP ports of the fleet and the unix sockets of its control plane."""
