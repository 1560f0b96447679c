"""
The checks of `ccproxy doctor`.

    finding          Scene and Finding: the input and the result of a check
    machine_checks   Python, limits, clock, disk, systemd
    file_checks      the configuration, permissions, records, logs
    fleet_checks     supervisor, workers, ports, services
    shell_checks     PATH, HTTP proxies, Claude Code and its settings
    network_checks   each provider: name, connection, certificate, key
    examination      every check, in the order of the output, and the code that runs them

A check changes nothing. A finding may contain a harmless repair, a function that --fix calls.
"""
