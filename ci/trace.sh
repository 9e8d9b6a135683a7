#!/usr/bin/env bash
# Line coverage of both twins by tests/frame alone, each at least FLOOR percent.
# A traced build in a directory of its own; Python 3.11, where Cython's tracing works.
source "$(dirname "$0")/env.sh"
FLOOR="${FLOOR:-99}"
FASTRPC_EXT=require ci/install.sh
"$PY" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "tracing needs a .venv of Python 3.11" >&2
    exit 1
}
copy_tree trace
cd build/trace
export FASTRPC_EXT=require
FASTRPC_TRACE=1 "$PY" setup.py -q build_ext --inplace
"$PY" -c 'import fastrpc._frame as f; assert "/build/trace/" in f.__file__, f.__file__'
say "tests/frame, traced"
"$PY" -m coverage run -m pytest -q -p no:cacheprovider --timeout=300 tests/frame
twins=(fastrpc/_*.pyx fastrpc/_*_py.py)
"$PY" -m coverage report --include="$(IFS=,; echo "${twins[*]}")"
for twin in "${twins[@]}"; do
    "$PY" -m coverage report --include="$twin" --fail-under="$FLOOR" >/dev/null || {
        echo "$twin: coverage below $FLOOR %" >&2
        exit 1
    }
done
