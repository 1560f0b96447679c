"""
Operating system processes; nothing here depends on the rest of the supervisor.

    identity           identifies a process, and signals only that process
    exit_watch         detects when a process exits
    fork_client        starts workers through a fork server
    child_environment  the environment variables of a child
    crash_output       a worker's last output before it failed
    descriptors        the limit on open files
"""
