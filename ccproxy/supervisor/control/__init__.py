"""
The control plane: what the command line asks of the supervisor.

    protocol        commands, replies and progress, as they cross the control socket
    client          sends commands; starts a supervisor if needed
    operations      start, stop, restart, reload, status, plan
    status          the row of one entry
    offline_status  the same without a supervisor
    worker_requests requests that the command line sends to the workers themselves
"""
