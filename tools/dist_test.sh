#!/usr/bin/env bash
# Score a model: tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]. One process does it, on one GPU.
set -euo pipefail
if [ $# -lt 3 ]; then echo "usage: $0 CONFIG CHECKPOINT GPUS [arguments of tools/test.py]" >&2; exit 2; fi
config=$1 checkpoint=$2
shift 3
exec python "$(dirname "$0")/test.py" "$config" "$checkpoint" "$@"
