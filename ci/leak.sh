#!/usr/bin/env bash
# Scripts that count objects and memory, each in a process of its own.
source "$(dirname "$0")/env.sh"
ci/install.sh
# One arena: else fragmentation of the allocator reads as a leak.
MALLOC_ARENA_MAX=1 "$PY" -m pytest -q --timeout=600 tests/leak "$@"
