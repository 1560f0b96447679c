"""
State that outlives a request: statistics, history and keys, in SQLite files in `state/`.

    database       opens a file, and recovers from a damaged or removed one
    writer         one thread per file that writes in batches; callers never wait for it
    usage_totals   tokens, errors and costs per hour, label, model and key
    history        recorded conversations, per label
    key_database   the state of one entry's keys
    exports        history as JSON lines in `exports/`
    wall_clock     detects clock changes, after which nothing is deleted for a day

The package does not depend on HTTP, providers or the event loop. The worker writes, the command
line reads; both may have a file open at the same time.
"""
