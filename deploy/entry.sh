#!/bin/sh
# The container's only process: ccproxy takes the shell's place, so that SIGTERM reaches it.
# Settings that docker's --env-file leaves empty count as not given.
set -eu
umask 077
exec ccproxy up --port "${CCPROXY_PORT:-8080}" --host "${HOST:-0.0.0.0}" --json "$@"
