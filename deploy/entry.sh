#!/bin/sh
# exec replaces the shell with ccproxy, so that ccproxy receives SIGTERM. The empty variables of
# docker's --env-file count as unset.
set -eu
umask 077
exec ccproxy up --port "${CCPROXY_PORT:-8080}" --host "${HOST:-0.0.0.0}" --json "$@"
