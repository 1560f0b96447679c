"""
Files that outlive a process, in `pids/` and `state/` of the fleet's home.

    records          pid records of workers and of the supervisor
    lock             the fleet's lock
    file_guard       restores the lock, the socket and the record when they are removed
    stopped_entries  which entries the user has stopped
"""
