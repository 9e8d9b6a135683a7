#!/usr/bin/env bash
# The tests of what stands on the twins, without the compiled one. tests/frame, tests/interop and
# others run both twins wherever the compiled one is; they need no second run here.
source "$(dirname "$0")/env.sh"
export FASTRPC_EXT=off
ci/install.sh
say "pytest, pure twin"
"$PY" -m pytest -q -n 2 tests/session tests/client tests/server tests/gateway tests/examples "$@"
