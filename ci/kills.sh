#!/usr/bin/env bash
# A cluster whose instances are killed, then one whose instances are restarted in turn. Ten minutes.
source "$(dirname "$0")/env.sh"
ci/install.sh
"$PY" -m tests.soak.cluster kill --rounds 30 --every 10 --calls 5000000
"$PY" -m tests.soak.cluster roll --rounds 20
