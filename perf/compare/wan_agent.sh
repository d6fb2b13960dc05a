#!/usr/bin/env bash
# Stands in for ssh between hosts of the lab:   wan_agent.sh [options, ignored] ADDRESS COMMAND...
# Enters the host through the process that wan_rank.sh keeps there.
set -euo pipefail
while [ $# -gt 0 ] && [ "${1#-}" != "$1" ]; do shift; done
pid=$(cat "$WAN_FOLDER/pid.$1")
shift
exec nsenter --target "$pid" --net --uts --mount -- sh -c "$*" </dev/null
