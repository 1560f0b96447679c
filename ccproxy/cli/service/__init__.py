"""Start at boot: systemd, launchd and cron."""
