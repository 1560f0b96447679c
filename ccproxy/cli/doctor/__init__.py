"""
What `ccproxy doctor` looks at.

    finding     Check, Finding and Scene: what a check sees, and what it says
    machine     Python, limits, clock, disk, systemd: what any program needs
    files       the configuration, permissions, records, logs
    fleet       supervisor, workers, ports, services
    shell       PATH, proxies, Claude Code and the settings that would win over `ccproxy env`
    network     each provider: name, connection, certificate, key
    table       every check, in the order in which they are shown

A check only looks. What mends something harmless is a function in its finding, called by --fix.
"""
