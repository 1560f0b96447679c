"""
Processes of the machine; nothing here depends on the rest of the supervisor.

    identity           who a process is, and signals that reach no other
    exit_watch         notices the end of a process
    fork_client        lets a fork server start workers
    child_environment  the variables that a child gets
    crash_output       what a worker wrote before it failed
    descriptors        the limit of open files
"""
