"""
The fleet: one resident process that keeps every proxy of the table alive. Look, decide, act.

    plan        facts -> phase -> action: a pure table
    unit        one worker position: what happened to it, read as facts
    converge    the loop that looks at every unit, decides and acts
    host        the acting: spawning, draining, signals
    processes   who a process is, when it ends, and signals that reach nobody else
    listeners   the listening sockets, owned here and handed down
    records     what is written down, so that a successor knows the workers
    adoption    how a successor takes over what it finds running
    orders      what can be asked of the supervisor: start, stop, restart, reload, status
    examine     reads the user's files in a process of its own, so that no secret stays here
    resident    the life of the supervisor itself
    control     the unix socket: one JSON line in, one out
    rows        what `status` shows
    client      the other end, for the CLI; it works with a dead supervisor, too
"""
