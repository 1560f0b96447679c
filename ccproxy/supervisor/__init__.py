"""
The fleet: one resident process that keeps every proxy of the table alive. Look, decide, act.

Deciding (no machine, no clock):
    plan        facts -> phase -> action: a pure table
    unit        one worker position: what happened to it, read as facts
    converge    the loop that looks at every unit, decides and acts

Looking and acting:
    host        spawning, draining, signals
    forkserver  has workers forked, so that many start as one and share their memory
    processes   who a process is, and signals that reach nobody else; `watch` tells its end
    listeners   the listening sockets, owned here and handed down
    absence     answers where workers die as often as they are started
    probes      finds workers that live but do not work
    output      what a worker wrote before it died
    caretaker   throws old logs away; `wallclock` keeps it from believing a clock that leapt
    records     what is written down, so that a successor knows the workers
    unwanted    which entries were stopped, for the same successor
    adoption    how a successor takes over what it finds running

Being asked:
    orders      start, stop, restart, reload, status
    examine     reads the user's files in a process of its own, so that no secret stays here
    rows        what `status` shows
    control     the unix socket: one JSON line in, one out; `server` is its answering end
    peer        who listens at a socket, before anything is asked there
    resident    the life of the supervisor itself; `foreground` is the same for `up`

Asking, for the CLI:
    client      has things done, and looks; it works with a dead supervisor, too
    survey      looks where no supervisor answers
    lock        whoever holds it is the supervisor, or is about to start one
"""
