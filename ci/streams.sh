#!/usr/bin/env bash
# Many streams left half-way, and much streamed to somebody slow; prints what that took.
source "$(dirname "$0")/env.sh"
ci/install.sh
export FASTRPC_STREAMS="${FASTRPC_STREAMS:-100000}" FASTRPC_STREAM_MIB="${FASTRPC_STREAM_MIB:-1024}"
MALLOC_ARENA_MAX=1 "$PY" -m pytest -q -s --timeout=900 tests/leak/test_streams.py "$@"
