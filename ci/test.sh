#!/usr/bin/env bash
# The checks, then every test. FASTRPC_EXT=off tests the pure twin alone.
# Arguments go to pytest.
source "$(dirname "$0")/env.sh"
ci/check.sh
ci/peers.sh
say "pytest (FASTRPC_EXT=$FASTRPC_EXT)"
# tests/arch ran in the checks; leak and soak have scripts of their own.
"$PY" -m pytest -q -n 2 --ignore=tests/arch --ignore=tests/leak --ignore=tests/soak tests "$@"
