"""Every check, in the order in which they are shown."""

from __future__ import annotations

from ccproxy.cli.doctor import (
    file_checks as files,
)
from ccproxy.cli.doctor import (
    fleet_checks as fleet,
)
from ccproxy.cli.doctor import (
    machine_checks as machine,
)
from ccproxy.cli.doctor import (
    network_checks as network,
)
from ccproxy.cli.doctor import (
    shell_checks as shell,
)
from ccproxy.cli.doctor.finding import Check

CHECKS = (
    Check("python", machine.python),
    Check("package", machine.installation),
    Check("user", machine.user),
    Check("path", shell.path),
    Check("system", machine.wsl),
    Check("systemd", machine.systemd),
    Check("open files", machine.open_files),
    Check("memory", machine.memory),
    Check("disk", machine.disk),
    Check("clock", machine.clock),
    Check("localhost", machine.localhost),
    Check("configuration", files.configuration),
    Check("env files", files.env_files),
    Check("git", files.version_control),
    Check("folders", files.folders),
    Check("file modes", files.file_modes),
    Check("records", files.records),
    Check("logs", files.log_size),
    Check("log times", files.log_times),
    Check("supervisor", fleet.supervisor),
    Check("workers", fleet.workers),
    Check("keys", fleet.keys),
    Check("ports", fleet.ports),
    Check("reach", fleet.reach),
    Check("control", fleet.control),
    Check("service", fleet.service),
    Check("crontab", fleet.crontab),
    Check("http proxy", shell.proxies),
    Check("credentials", shell.credentials),
    Check("base url", shell.base_url),
    Check("session", shell.leftovers),
    Check("settings", shell.settings),
    Check("claude", shell.claude),
    Check("providers", network.providers),
    Check("provider keys", network.keys),
)
