"""
The control plane: requests from the command line to the supervisor and the workers.

    protocol        commands, replies and progress, as sent over the control socket
    client          sends commands; starts a supervisor if needed
    operations      start, stop, restart, reload, status, plan
    status          the status row of one entry
    offline_status  the status without a supervisor
    worker_requests requests that the command line sends to the workers themselves
"""
