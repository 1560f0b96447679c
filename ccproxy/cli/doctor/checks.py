"""Every check, in the order of the output."""

from __future__ import annotations

from ccproxy.cli.doctor import (
    file_checks,
    fleet_checks,
    machine_checks,
    network_checks,
    shell_checks,
)
from ccproxy.cli.doctor.finding import Check

CHECKS = (
    Check("python", machine_checks.python),
    Check("package", machine_checks.installation),
    Check("user", machine_checks.user),
    Check("path", shell_checks.path),
    Check("system", machine_checks.wsl),
    Check("systemd", machine_checks.systemd),
    Check("open files", machine_checks.open_files),
    Check("memory", machine_checks.memory),
    Check("disk", machine_checks.disk),
    Check("clock", machine_checks.clock),
    Check("localhost", machine_checks.localhost),
    Check("configuration", file_checks.configuration),
    Check("env files", file_checks.env_files),
    Check("git", file_checks.version_control),
    Check("folders", file_checks.folders),
    Check("file modes", file_checks.file_modes),
    Check("records", file_checks.records),
    Check("logs", file_checks.log_size),
    Check("log times", file_checks.log_times),
    Check("supervisor", fleet_checks.supervisor),
    Check("workers", fleet_checks.workers),
    Check("changes", fleet_checks.changes),
    Check("keys", fleet_checks.keys),
    Check("models", fleet_checks.models),
    Check("ports", fleet_checks.ports),
    Check("reach", fleet_checks.reach),
    Check("control", fleet_checks.control),
    Check("service", fleet_checks.service),
    Check("crontab", fleet_checks.crontab),
    Check("http proxy", shell_checks.proxies),
    Check("credentials", shell_checks.credentials),
    Check("base url", shell_checks.base_url),
    Check("session", shell_checks.leftovers),
    Check("settings", shell_checks.settings),
    Check("claude", shell_checks.claude),
    Check("providers", network_checks.providers),
    Check("provider keys", network_checks.keys),
)
