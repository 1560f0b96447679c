"""
What outlives a request: statistics and history, in SQLite files of the fleet's `state/`.

    database     opens a file and recovers from a damaged one
    writer       one thread per file that writes in batches; nobody waits for it
    usage        tokens, errors and costs per day, label, model and key
    history      what was said, per label
    exports      history as JSON lines, by name, inside `exports/`

Nothing here knows HTTP, providers or the event loop. The worker writes, the CLI reads; both may
have a file open at the same time.
"""
