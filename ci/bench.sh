#!/usr/bin/env bash
# The pytest-benchmark suite, short rounds. Arguments go to pytest.
source "$(dirname "$0")/env.sh"
ci/install.sh
"$PY" -m pytest -q bench --benchmark-only --benchmark-max-time=0.3 --benchmark-min-rounds=3 \
    --timeout=300 "$@"
