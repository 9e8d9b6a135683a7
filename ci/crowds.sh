#!/usr/bin/env bash
# Crowds of bad peers at full size. Takes some minutes; the figures are for people.
source "$(dirname "$0")/env.sh"
ci/install.sh
"$PY" -m tests.soak.crowds "$@"
"$PY" tests/leak/half_hellos.py
"$PY" tests/leak/half_hellos.py --uvloop
