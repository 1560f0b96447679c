"""Start with the machine: systemd, launchd and cron."""
