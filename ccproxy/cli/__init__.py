"""
The command line.

    main            the `ccproxy` command: finds the command to run, prints errors, exits
    command         the registry of commands, and the options that all of them accept
    commands/       one file per command, by group
    selection       opens the table and selects entries by label
    confirmation    asks before a change that the user may not want
    render/         tables, results and errors as text
    logs/           reads log files and formats their lines
    doctor/         the checks of `doctor`
    session/        the environment and settings of a Claude Code session
    setup/          adding providers
    service/        systemd, launchd and cron

A command parses its options, calls the code that does the work, and prints the result. Modules that
are slow to import (conversion, presets, psutil, SQLite) are imported inside functions, so that
`--help` and completion are fast; aiohttp and structlog are never imported. Results go to stdout,
messages to stderr.
"""
