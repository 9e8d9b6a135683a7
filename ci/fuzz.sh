#!/usr/bin/env bash
# Property tests with many more examples and a fresh seed; EXAMPLES says how many each.
source "$(dirname "$0")/env.sh"
ci/install.sh
rooms=()
for room in tests/frame tests/fuzz; do [ -d "$room" ] && rooms+=("$room"); done
export FASTRPC_EXAMPLES="${EXAMPLES:-20000}"
"$PY" -m pytest -q -n 2 --timeout=3600 --hypothesis-profile=fuzz \
    --hypothesis-show-statistics "${rooms[@]}" "$@"
