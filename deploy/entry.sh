#!/bin/sh
# exec replaces the shell by ccproxy, so that SIGTERM reaches it. Empty variables from docker's
# --env-file count as unset.
set -eu
umask 077
exec ccproxy up --port "${CCPROXY_PORT:-8080}" --host "${HOST:-0.0.0.0}" --json "$@"
