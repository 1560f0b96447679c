"""
The supervisor: one resident process that keeps the workers of a fleet running.

    main_loop        runs the supervisor until it is stopped
    foreground       runs the supervisor inside `ccproxy up`
    config_check     checks the user's files in a separate process
    config_changes   detects edits since the workers were started
    retention        deletes old logs and history
    journal          the supervisor's log
    service_notify   notifications to systemd

    fleet/           facts about workers, decisions and actions
    control/         commands from the command line, and their client
    sockets/         listening ports and control sockets
    state/           records, lock and other files
    processes/       identity, start and exit of processes
"""
